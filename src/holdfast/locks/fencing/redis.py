"""Fences and fenced values on Redis: one atomic script each."""

from __future__ import annotations

import math
from typing import Any

from holdfast.backends.redis import Command, Eval, Script, physical_key

__all__ = ["accept", "prune", "read", "write"]

_ACCEPT = Script(__file__, "accept.lua")
_WRITE = Script(__file__, "write.lua")
_REMEMBERED_MS = 30 * 86_400_000


def accept(resource: str, token: int) -> Eval[int]:
    """Remember `token` if it is the greatest yet; return the greatest."""
    return Eval(_ACCEPT, (physical_key("fence", resource),), (token, _REMEMBERED_MS), int)


def prune() -> None:
    """Return None: Redis removes keys by itself."""


def write(name: str, value: bytes, token: int, ttl: float | None) -> Eval[int]:
    """Write `value` if `token` is the greatest yet; return the greatest."""
    ttl_ms = 0 if ttl is None else math.ceil(ttl * 1000)
    return Eval(_WRITE, (_key(name),), (token, value, ttl_ms), int)


def read(name: str) -> Command[tuple[bytes, int] | None]:
    """Return value and token, or None."""
    return Command(("HMGET", _key(name), "value", "token"), _value, writes=False)


def _key(name: str) -> str:
    return physical_key("fenced", name)


def _value(reply: list[Any]) -> tuple[bytes, int] | None:
    value, token = reply
    return None if token is None else (value, int(token))
