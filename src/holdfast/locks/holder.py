"""Who holds a lock: what everybody may know of a lease, as opposed to what its owner can do with it.

The owner of a lease is a secret and, after a blank, a label. The secret is what extends and releases;
the label is for people, and is all that leaves this module.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache

from holdfast import signals

__all__ = ["Holder", "LeaseEnded", "holder", "usual_label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A lease as the store sees it.

    Attributes:
        label: what its owner calls itself; host and process id unless it was given one.
        token: its fencing token.
        age: seconds since it was granted, >= 0.
        remaining: seconds until it ends unless it is extended, >= 0.
    """

    label: str
    token: int
    age: float
    remaining: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnded(signals.Signal):
    """Somebody ended another's lease by `Lock.force_release`: for the audit log."""

    name: str
    holder: Holder
    by: str
    reason: str


def holder(owner: str, token: int, *, age: float, remaining: float) -> Holder:
    """Return what may be known of the lease of `owner`."""
    label = owner.partition(" ")[2]
    return Holder(label=label, token=token, age=max(0.0, age), remaining=max(0.0, remaining))


def usual_label() -> str:
    """Return the name of this host and the number of this process."""
    return f"{_host()}:{os.getpid()}"


@cache
def _host() -> str:
    return socket.gethostname()
