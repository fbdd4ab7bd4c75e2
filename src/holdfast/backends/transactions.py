"""What transactions are on every SQL backend; drivers add only how to begin, commit and roll back.

A *joined* backend is an open transaction as a backend: the same dialect and colour, but everything a
pattern does through it becomes part of the transaction.

    with backend.transaction() as tx:
        tx.execute("insert into orders (id) values (:id)", {"id": 7})
        Outbox(tx).publish("order.created", {"id": 7})      # both or neither

Within a joined backend `atomic` and `transaction()` are savepoints: an exception undoes just their
own work, and the outer transaction goes on.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

from holdfast.backends._backend import AsyncBackend, SyncBackend
from holdfast.backends.sql import Query, Row, Statement, statement_of
from holdfast.errors import BackendError
from holdfast.operations import Steps

__all__ = [
    "MAX_RESTARTS",
    "RELEASE",
    "SAVEPOINT",
    "UNDO",
    "JoinedAsync",
    "JoinedSync",
    "SqlAsync",
    "SqlSync",
    "restart_pause",
    "savepoint",
]

T = TypeVar("T")

MAX_RESTARTS = 5
"""How often a transaction that gave way to another begins again."""


def restart_pause(restart: int, dice: random.Random) -> float:
    """Return the seconds to wait before the restart of that number: up to 10 ms at first, then doubling."""
    return dice.uniform(0.0, 0.01 * 2**restart)


# Savepoints of one name nest, the newest counts.
SAVEPOINT: Query[object] = Query(Statement("savepoint", "savepoint holdfast"), {})
UNDO: Query[object] = Query(Statement("rollback", "rollback to savepoint holdfast"), {})
RELEASE: Query[object] = Query(Statement("release", "release savepoint holdfast"), {})


def savepoint(steps: Callable[[], Steps[T]]) -> Steps[T]:
    """Carry out `steps()` within an open transaction so that an exception undoes just them."""
    yield from SAVEPOINT
    try:
        result = yield from steps()
    except BaseException:
        # Without its connection the transaction is gone anyway, and the first error says more.
        with contextlib.suppress(BackendError):
            yield from UNDO
            yield from RELEASE
        raise
    yield from RELEASE
    return result


class SqlSync(SyncBackend):
    """A SQL backend for blocking code."""

    _statement_of = staticmethod(statement_of)

    def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once."""
        raise NotImplementedError

    def transaction(self) -> AbstractContextManager[JoinedSync]:
        """Open a transaction: commit at the end of the block, roll back when it raises.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the connection was lost while it committed.
        """
        raise NotImplementedError

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Carry out SQL of your own, with `:name` parameters, and return its rows as tuples."""
        return list(self.query(Query(self._statement_of(sql), parameters or {})))

    def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` in one transaction."""
        with self.transaction() as joined:
            return joined.run(steps())


class JoinedSync(SqlSync):
    """An open transaction as a backend for blocking code."""

    one_connection: bool = True

    def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` so that an exception undoes just them."""
        return self.run(savepoint(steps))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[JoinedSync]:
        """Open a savepoint: when the block raises, just its own work is undone."""
        self.query(SAVEPOINT)
        try:
            yield self
        except BaseException:
            with contextlib.suppress(BackendError):
                self.query(UNDO)
                self.query(RELEASE)
            raise
        self.query(RELEASE)


class SqlAsync(AsyncBackend):
    """A SQL backend for asyncio code."""

    _statement_of = staticmethod(statement_of)

    async def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once."""
        raise NotImplementedError

    def transaction(self) -> AbstractAsyncContextManager[JoinedAsync]:
        """Open a transaction: commit at the end of the block, roll back when it raises.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the connection was lost while it committed.
        """
        raise NotImplementedError

    async def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Carry out SQL of your own, with `:name` parameters, and return its rows as tuples."""
        return list(await self.query(Query(self._statement_of(sql), parameters or {})))

    async def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` in one transaction."""
        async with self.transaction() as joined:
            return await joined.run(steps())


class JoinedAsync(SqlAsync):
    """An open transaction as a backend for asyncio code."""

    one_connection: bool = True

    async def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` so that an exception undoes just them."""
        return await self.run(savepoint(steps))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[JoinedAsync]:
        """Open a savepoint: when the block raises, just its own work is undone."""
        await self.query(SAVEPOINT)
        try:
            yield self
        except BaseException:
            with contextlib.suppress(BackendError):
                await self._shielded(UNDO)
                await self._shielded(RELEASE)
            raise
        await self.query(RELEASE)
