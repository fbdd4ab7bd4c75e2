"""Fences in memory: the model that the Lua and SQL carriers are compared with."""

from __future__ import annotations

from holdfast.backends.memory import Call, State

__all__ = ["accept", "prune"]

REMEMBERED_SECONDS = 30 * 86_400.0


def accept(resource: str, token: int) -> Call[int]:
    """Remember `token` if it is the greatest yet; return the greatest."""
    return Call(_accept, resource, token)


def prune() -> Call[None] | None:
    """Return None: the table drops by itself what has ended."""
    return None


def _accept(state: State, resource: str, token: int) -> int:
    fences = state.table("fences")
    newest = max(token, fences.get(resource) or 0)
    fences.put(resource, newest, expires_at=state.now + REMEMBERED_SECONDS)
    return newest
