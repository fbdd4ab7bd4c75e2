"""Locks in memory: the model that the Lua and SQL carriers are compared with. Read this first."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.backends.memory import Call, State
from holdfast.locks.holder import Holder, holder
from holdfast.locks.lease import Grant

__all__ = ["acquire", "extend", "force_release", "peek", "prune", "release", "watch"]


class _Held(NamedTuple):
    owner: str
    token: int
    granted: float
    ends: float


def acquire(name: str, owner: str, ttl: float) -> Call[Grant]:
    """Take the lock for `ttl` seconds, unless another owner's lease lives.

    An owner that asks again, because the first answer was lost, gets its own token again.
    """
    return Call(_acquire, name, owner, ttl)


def extend(name: str, owner: str, ttl: float) -> Call[bool]:
    """Let the lease of `owner` live for `ttl` seconds from now; False if it has none any more."""
    return Call(_extend, name, owner, ttl)


def release(name: str, owner: str) -> Call[bool]:
    """End the lease of `owner`; False if it has none any more."""
    return Call(_release, name, owner)


def watch(name: str) -> None:
    """Return None: who waits looks again."""
    del name


def peek(name: str) -> Call[Holder | None]:
    """Tell who holds the lock; None when nobody does."""
    return Call(_peek, name)


def force_release(name: str) -> Call[Holder | None]:
    """End whatever lease there is, and tell whose it was."""
    return Call(_force_release, name)


def prune() -> Call[None] | None:
    """Return None: the table drops by itself what has ended."""
    return None


def _acquire(state: State, name: str, owner: str, ttl: float) -> Grant:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is not None and held.owner != owner:
        return Grant(None, held.ends - state.now)
    if held is None:
        held = _Held(owner, _next_token(state), state.now, state.now)
    _put(state, name, held, ttl)
    return Grant(held.token)


def _extend(state: State, name: str, owner: str, ttl: float) -> bool:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is None or held.owner != owner:
        return False
    _put(state, name, held, ttl)
    return True


def _release(state: State, name: str, owner: str) -> bool:
    leases = state.table("locks")
    held: _Held | None = leases.get(name)
    if held is None or held.owner != owner:
        return False
    leases.delete(name)
    return True


def _peek(state: State, name: str) -> Holder | None:
    held: _Held | None = state.table("locks").get(name)
    if held is None:
        return None
    return holder(held.owner, held.token, age=state.now - held.granted, remaining=held.ends - state.now)


def _force_release(state: State, name: str) -> Holder | None:
    held = _peek(state, name)
    state.table("locks").delete(name)
    return held


def _put(state: State, name: str, held: _Held, ttl: float) -> None:
    ends = state.now + ttl
    state.table("locks").put(name, held._replace(ends=ends), expires_at=ends)


def _next_token(state: State) -> int:
    # One counter for all names: it only grows, and needs no memory per name.
    counter = state.table("fencing_tokens")
    token = (counter.get("last") or 0) + 1
    counter.put("last", token)
    return token
