"""What has to begin anew in a forked child.

None of the parent's other threads is there: whoever held a lock never lets go of it, and whoever did something for
others has stopped in the middle. A child must not wait for either.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["first", "remember"]


class _Inheritable(Protocol):
    def forget_inherited(self) -> None: ...


_remembered: weakref.WeakSet[_Inheritable] = weakref.WeakSet()
_first: list[Callable[[], None]] = []


def remember(owner: _Inheritable) -> None:
    """Have `owner.forget_inherited()` called in every forked child, as long as `owner` lives."""
    _remembered.add(owner)


def first(action: Callable[[], None]) -> None:
    """Have `action` called in every forked child, before those that are remembered."""
    _first.append(action)


def _after_fork() -> None:
    for action in _first:
        action()
    for owner in list(_remembered):
        owner.forget_inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
