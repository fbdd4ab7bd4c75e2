"""The steps of one transaction, carried out in a worker thread as far as they are statements."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from holdfast.backends.sql import Query
from holdfast.backends.sqlite._database import Connection, Database
from holdfast.backends.sqlite._errors import fail
from holdfast.backends.sqlite._joined import OpenTransaction, fetch_joined
from holdfast.backends.transactions import savepoint
from holdfast.operations import Atomic, Request, Steps

__all__ = ["StepsInThread"]

T = TypeVar("T")


class StepsInThread(Generic[T]):
    """One transaction: begin, steps, commit or roll back.

    `start` and `go_on` are called in a worker thread. Afterwards `request` holds a step that the event
    loop has to carry out, or None when the transaction is over; then `result` holds what it returned.
    """

    request: Request[Any] | None = None
    result: T

    def __init__(self, database: Database, steps: Callable[[], Steps[T]], place: str) -> None:
        self._database = database
        self._steps = steps
        self._place = place
        self._stopping = False
        self.opened: OpenTransaction | None = None

    def start(self) -> None:
        """Begin, and carry out the first steps.

        Raises:
            sqlite3.Error: nothing was begun; `is_busy` tells whether to call it again.
        """
        connection = self._database.begin()
        self.opened = OpenTransaction(connection, connection.fetch)
        self._running = flat(self._steps())
        self.go_on(None, None)

    def go_on(self, reply: Any, error: BaseException | None) -> None:
        """Tell the steps how the loop's request went, and carry out the next ones."""
        try:
            self.request = self._until_the_loop_is_needed(reply, error)
        except StopIteration as stop:
            self._commit()
            self.result = cast("T", stop.value)
            self.end()
        except BaseException:
            self.end()
            raise

    def stop(self) -> None:
        """Have the steps see a `CancelledError` before their next statement."""
        self._stopping = True

    def end(self) -> None:
        """Roll back if it is not over yet; harmless when it is."""
        self.request = None
        if self.opened is not None and (connection := self.opened.connection) is not None:
            self.opened.connection = None
            self._running.close()
            self._database.end(cast("Connection", connection))

    def _until_the_loop_is_needed(self, reply: Any, error: BaseException | None) -> Request[Any]:
        running = self._running
        request = running.send(reply) if error is None else running.throw(error)
        while isinstance(request, Query):
            try:
                reply = self._query(request)
            except BaseException as failure:  # noqa: BLE001 - the steps decide what becomes of it
                request = running.throw(failure)
            else:
                request = running.send(reply)
        return request

    def _query(self, request: Query[Any]) -> Any:
        if self._stopping:
            self._stopping = False
            raise asyncio.CancelledError
        assert self.opened is not None
        try:
            rows = fetch_joined(self.opened, request.statement, request.parameters, self._database.clock)
        except sqlite3.Error as error:
            fail(error, self._place, request.statement.name)
        return request.decode(rows)

    def _commit(self) -> None:
        if self._stopping:
            raise asyncio.CancelledError
        assert self.opened is not None
        assert self.opened.connection is not None
        try:
            self.opened.connection.commit()
        except sqlite3.Error as error:
            fail(error, self._place, "commit", wrote=True)


def flat(steps: Steps[T]) -> Steps[T]:
    """Yield the requests of `steps`, and in the place of an `Atomic` the requests of its savepoint."""
    try:
        request = next(steps)
        while True:
            try:
                reply = yield from _one(request)
            except BaseException as error:  # noqa: BLE001 - the steps decide what becomes of it
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        return cast("T", stop.value)


def _one(request: Request[T]) -> Steps[T]:
    if isinstance(request, Atomic):
        request = cast("Any", flat(savepoint(request.steps)))
    return (yield from request)
