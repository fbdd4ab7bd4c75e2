"""What a client/server SQL driver has to offer, and nothing more: a `Link` is one connection.

psycopg, asyncpg and SQLAlchemy differ only in this; `LinkedSync` and `LinkedAsync` make backends of
it. A link raises whatever its driver raises, `TimeoutError` when the time is up, and `NotSent` when it
could not even begin; an `Explain` decides what an error means. Every method is given the seconds it may
take and keeps to them, also when the server hangs with its connections open.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from holdfast.backends.sql import Row, Statement
from holdfast.errors import BackendUnavailable

__all__ = [
    "AsyncLink",
    "AsyncLinks",
    "Conflict",
    "Explain",
    "NotSent",
    "Phase",
    "SyncLink",
    "SyncLinks",
    "too_late",
    "unreachable",
]


class Conflict(BackendUnavailable):
    """The transaction gave way to another and was rolled back; it can begin again from the start."""

    joined: bool = False
    """It is the caller's own, so only the caller can begin it again."""


class NotSent(Exception):
    """The statement certainly did not reach the server; the connection is as it was."""


class Phase(Enum):
    """When something went wrong; it decides whether the work may have been done."""

    CONNECT = "connect"
    WITHIN = "within an open transaction"
    JOINED = "within the caller's open transaction"
    READ = "a read by itself"
    WRITE = "a write by itself"
    COMMIT = "commit"

    @property
    def perhaps_done(self) -> bool:
        """Whether a connection lost now leaves the outcome unknown."""
        return self in {Phase.WRITE, Phase.COMMIT}


def unreachable(error: Exception, *, place: str, operation: str) -> BackendUnavailable:
    """Return the error for a connection that could not be had, so nothing was done."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return BackendUnavailable(f"{operation} on {place}: {reason}", backend=place, operation=operation)


def too_late(*, place: str, operation: str) -> BackendUnavailable:
    """Return the error for a deadline that had passed before anything was sent."""
    message = f"{operation} on {place}: the time was over before it could be sent, so nothing was done"
    return BackendUnavailable(message, backend=place, operation=operation)


class Explain(Protocol):
    """Say in holdfast's words what went wrong; returns `error` itself when it is the caller's own."""

    def __call__(
        self, error: Exception, *, phase: Phase, lost: bool, statement: Statement, place: str
    ) -> Exception: ...


class _Link(Protocol):
    @property
    def autocommit(self) -> bool:
        """Whether a statement outside of a transaction commits by itself."""
        ...

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open (also one that has failed)."""
        ...

    def alive(self) -> bool:
        """Tell whether the connection can still be used, as far as this side knows."""
        ...

    def drop(self) -> None:
        """Close the connection at once, without waiting for anybody."""
        ...


class SyncLink(_Link, Protocol):
    """One connection for blocking code."""

    def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> Sequence[Row]:
        """Carry out one statement and return its rows as tuples."""
        ...

    def begin(self, seconds: float) -> None:
        """Begin a transaction."""
        ...

    def commit(self, seconds: float) -> None:
        """Commit; raise `Conflict`-free driver errors when the server rolled back instead."""
        ...

    def rollback(self, seconds: float) -> None:
        """Roll back."""
        ...


class AsyncLink(_Link, Protocol):
    """One connection for asyncio code; a cancelled call leaves it usable or not `alive`."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> Sequence[Row]:
        """Carry out one statement and return its rows as tuples."""
        ...

    async def begin(self, seconds: float) -> None:
        """Begin a transaction."""
        ...

    async def commit(self, seconds: float) -> None:
        """Commit."""
        ...

    async def rollback(self, seconds: float) -> None:
        """Roll back."""
        ...


class SyncLinks(Protocol):
    """Where links come from: a pool of ours, a pool of the user's, or the user's one connection."""

    def take(self, seconds: float) -> SyncLink:
        """Borrow a link."""
        ...

    def give(self, link: Any) -> None:
        """Give it back; one that is not alive, or still in a transaction of ours, is thrown away."""
        ...

    def close(self) -> None:
        """Close what holdfast opened."""
        ...


class AsyncLinks(Protocol):
    """The same for asyncio code."""

    async def take(self, seconds: float) -> AsyncLink:
        """Borrow a link."""
        ...

    def give(self, link: Any) -> Coroutine[Any, Any, None] | None:
        """Give it back: at once, or by a coroutine that must be awaited to its end."""
        ...

    async def close(self) -> None:
        """Close what holdfast opened."""
        ...
