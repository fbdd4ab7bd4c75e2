"""Locks in memory: the model that the Lua and SQL carriers are compared with. Read this first."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.backends.memory import Call, State

__all__ = ["acquire", "extend", "prune", "release"]


class _Held(NamedTuple):
    owner: str
    token: int


def acquire(name: str, owner: str, ttl: float) -> Call[int | None]:
    """Take the lock for `ttl` seconds: the fencing token, or None while another owner's lease lives.

    An owner that asks again, because the first answer was lost, gets its own token again.
    """
    return Call(_acquire, name, owner, ttl)


def extend(name: str, owner: str, ttl: float) -> Call[bool]:
    """Let the lease of `owner` live for `ttl` seconds from now; False if it has none any more."""
    return Call(_extend, name, owner, ttl)


def release(name: str, owner: str) -> Call[bool]:
    """End the lease of `owner`; False if it has none any more."""
    return Call(_release, name, owner)


def prune() -> Call[None] | None:
    """Return None: the table drops by itself what has ended."""
    return None


def _acquire(state: State, name: str, owner: str, ttl: float) -> int | None:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is not None and held.owner != owner:
        return None
    token = held.token if held is not None else _next_token(state)
    leases.put(name, _Held(owner, token), expires_at=state.now + ttl)
    return token


def _extend(state: State, name: str, owner: str, ttl: float) -> bool:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is None or held.owner != owner:
        return False
    leases.put(name, held, expires_at=state.now + ttl)
    return True


def _release(state: State, name: str, owner: str) -> bool:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is None or held.owner != owner:
        return False
    leases.delete(name)
    return True


def _next_token(state: State) -> int:
    # One counter for all names: it only grows, and needs no memory per name.
    counter = state.table("fencing_tokens")
    token = (counter.get("last") or 0) + 1
    counter.put("last", token)
    return token
