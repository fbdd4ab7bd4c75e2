"""Locks on Redis: one atomic script, so one round trip, per step.

A lease is one key that Redis itself ends after the TTL. The last fencing token of a name is a second key
in the same slot that outlives every lease by a day. A token is the server's time in microseconds, or one
more than the last if that is greater: so it grows as well after the data was lost, and after a clock that
was set back by less than a day; and nothing has to be kept for ever.

A release is published, so that who waits need not ask again and again.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from holdfast.backends.redis import Eval, Script, Watching, physical_key
from holdfast.locks.holder import Holder, holder
from holdfast.locks.lease import Grant

__all__ = ["acquire", "extend", "force_release", "peek", "prune", "release", "watch"]

_ACQUIRE = Script(__file__, "acquire.lua")
_EXTEND = Script(__file__, "extend.lua")
_RELEASE = Script(__file__, "release.lua")
_PEEK = Script(__file__, "peek.lua", writes=False)
_FORCE_RELEASE = Script(__file__, "force_release.lua")
# How long the last token of a name is remembered after its lease ended.
_TOKEN_MEMORY_MS = 86_400_000


def acquire(name: str, owner: str, ttl: float) -> Eval[Grant]:
    """Take the lock for `ttl` seconds, unless another owner's lease lives."""
    return Eval(_ACQUIRE, _keys(name), (owner, *_lifetimes(ttl)), _grant)


def watch(name: str) -> Watching:
    """Stand in line for notices that the lock is free."""
    return Watching(_channel(name))


def extend(name: str, owner: str, ttl: float) -> Eval[bool]:
    """Let the lease of `owner` live for `ttl` seconds from now; False if it has none any more."""
    return Eval(_EXTEND, _keys(name), (owner, *_lifetimes(ttl)), bool)


def release(name: str, owner: str) -> Eval[bool]:
    """End the lease of `owner`; False if it has none any more."""
    return Eval(_RELEASE, _keys(name)[:1], (owner, _channel(name)), bool)


def peek(name: str) -> Eval[Holder | None]:
    """Tell who holds the lock; None when nobody does."""
    return Eval(_PEEK, _keys(name)[:1], (), _holder)


def force_release(name: str) -> Eval[Holder | None]:
    """End whatever lease there is, and tell whose it was."""
    return Eval(_FORCE_RELEASE, _keys(name)[:1], (_channel(name),), _holder)


def prune() -> None:
    """Return None: Redis removes keys by itself."""


@functools.lru_cache(maxsize=1024)
def _keys(name: str) -> tuple[str, str]:
    return physical_key("lock", name), physical_key("lock", name, suffix=":token")


def _lifetimes(ttl: float) -> tuple[int, int]:
    # Rounded up: the store must never end a lease before its holder believes that it ends.
    ttl_ms = math.ceil(ttl * 1000)
    return ttl_ms, ttl_ms + _TOKEN_MEMORY_MS


def _channel(name: str) -> str:
    return physical_key("lock", name, suffix=":free")


def _grant(reply: bytes | int) -> Grant:
    return Grant(int(reply)) if isinstance(reply, bytes) else Grant(None, reply / 1000)


def _holder(reply: list[Any] | None) -> Holder | None:
    if reply is None:
        return None
    token, _, owner = reply[0].decode().partition(" ")
    # A token is about the microsecond of its grant; it is ahead of the clock only after that was set back.
    age = (int(reply[2]) - int(token)) / 1_000_000
    return holder(owner, int(token), age=age, remaining=reply[1] / 1000)
