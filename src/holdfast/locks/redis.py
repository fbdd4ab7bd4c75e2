"""Locks on Redis: one atomic script, so one round trip, per step.

A lease is one key that Redis itself ends after the TTL. The last fencing token of a name is a second key
in the same slot that outlives every lease by a day. A token is the server's time in microseconds, or one
more than the last if that is greater: so it grows as well after the data was lost, and after a clock that
was set back by less than a day; and nothing has to be kept for ever.
"""

from __future__ import annotations

import functools
import math

from holdfast.backends.redis import Eval, Script, physical_key

__all__ = ["acquire", "extend", "prune", "release"]

_ACQUIRE = Script(__file__, "acquire.lua")
_EXTEND = Script(__file__, "extend.lua")
_RELEASE = Script(__file__, "release.lua")
# How long the last token of a name is remembered after its lease ended.
_TOKEN_MEMORY_MS = 86_400_000


def acquire(name: str, owner: str, ttl: float) -> Eval[int | None]:
    """Take the lock for `ttl` seconds: the fencing token, or None while another owner's lease lives."""
    return Eval(_ACQUIRE, _keys(name), (owner, *_lifetimes(ttl)), _token)


def extend(name: str, owner: str, ttl: float) -> Eval[bool]:
    """Let the lease of `owner` live for `ttl` seconds from now; False if it has none any more."""
    return Eval(_EXTEND, _keys(name), (owner, *_lifetimes(ttl)), bool)


def release(name: str, owner: str) -> Eval[bool]:
    """End the lease of `owner`; False if it has none any more."""
    return Eval(_RELEASE, _keys(name)[:1], (owner,), bool)


def prune() -> None:
    """Return None: Redis removes keys by itself."""


@functools.lru_cache(maxsize=1024)
def _keys(name: str) -> tuple[str, str]:
    return physical_key("lock", name), physical_key("lock", name, suffix=":token")


def _lifetimes(ttl: float) -> tuple[int, int]:
    # Rounded up: the store must never end a lease before its holder believes that it ends.
    ttl_ms = math.ceil(ttl * 1000)
    return ttl_ms, ttl_ms + _TOKEN_MEMORY_MS


def _token(reply: bytes | None) -> int | None:
    return None if reply is None else int(reply)
