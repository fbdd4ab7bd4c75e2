"""The user's one connection as a source of links: always the same, never closed by holdfast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["AsyncSingle", "SyncSingle"]

L = TypeVar("L")


class SyncSingle(Generic[L]):
    """For blocking code; threads may share it as far as the connection allows."""

    def __init__(self, link: L) -> None:
        self._link = link

    def take(self, seconds: float) -> L:
        """Return the link."""
        del seconds
        return self._link

    def give(self, link: L) -> None:
        """Keep it."""

    def close(self) -> None:
        """Leave the user's connection open."""


class AsyncSingle(Generic[L]):
    """For asyncio code; the link is made at the first request, when the event loop runs."""

    def __init__(self, make: Callable[[], L]) -> None:
        self._make = make
        self._link: L | None = None

    async def take(self, seconds: float) -> L:
        """Return the link."""
        del seconds
        if self._link is None:
            self._link = self._make()
        return self._link

    def give(self, link: Any) -> None:
        """Keep it."""

    async def close(self) -> None:
        """Leave the user's connection open."""
