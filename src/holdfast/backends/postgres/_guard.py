"""A deadline that holds for every wait of a psycopg connection.

psycopg does its work in generators, and `Connection.wait` runs them: a server that hangs with the
connection open would be waited for without end. Here the generator is wrapped, so that it gives up
when the time is over and nothing has come. The work goes on in C; only waits are looked at.

The deadline belongs to the call, not to the connection, because threads or tasks may share that: it
is a context variable, which each thread and each task has for itself. Where none is set, as in calls
of the user's own, the connection waits as psycopg does.

At the deadline the connection is in the middle of a conversation, so it is broken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import time
import weakref
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from holdfast.backends._links import NotSent
from holdfast.backends._surely import surely

__all__ = ["DEADLINE", "DeadlinePassed", "guard", "within"]

T = TypeVar("T")
_NEVER = math.inf
_LONGEST_WAIT = 0.1
_LONGEST_TIMEOUT = 1e6
_CANCEL_SECONDS = 1.0
"""How long the server gets to cancel the statement of a cancelled task."""

DEADLINE: ContextVar[float] = ContextVar("holdfast_deadline", default=_NEVER)
"""When the waits of this thread or task end, on the clock of `time.monotonic`."""


class DeadlinePassed(TimeoutError):
    """The server did not answer in time."""

    def __init__(self) -> None:
        super().__init__("the server did not answer in time")


class _OverError(Exception):
    # Not a TimeoutError: that is an OSError, which psycopg takes for a closed socket.
    pass


def guard(connection: Any) -> None:
    """Have `connection` keep `DEADLINE` from now on.

    The method `wait` is replaced on this one connection, for it may be the user's own. It stays
    replaced: to put it back could take it from another thread that is about to wait.
    """
    if not isinstance(connection.__dict__.get("wait"), _Guard):
        is_async = inspect.iscoroutinefunction(type(connection).wait)
        connection.__dict__["wait"] = (_AsyncGuard if is_async else _SyncGuard)(connection)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let all waits of the block end after `seconds`."""
    before = DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        DEADLINE.reset(before)


class _Guard:
    """The `wait` of a guarded connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)  # whose `wait` this is: no cycle, so that it closes at once
        self._wait = type(connection).wait

    def __call__(self, generator: Any, *args: Any, **options: Any) -> Any:
        """Run the generator until it is done or the time is over."""
        connection, deadline = self._connection(), DEADLINE.get()
        if deadline == _NEVER:
            return self._wait(connection, generator, *args, **options)
        return self._until(deadline, connection, _guarded(generator))

    def _until(self, deadline: float, connection: Any, guarded: Any) -> Any:
        raise NotImplementedError


class _SyncGuard(_Guard):
    """For `psycopg.Connection`."""

    def _until(self, deadline: float, connection: Any, guarded: Any) -> Any:
        interval = _interval(deadline)
        try:
            return self._wait(connection, guarded, interval=interval)
        except _OverError:
            raise _broken_off(connection) from None
        except Exception as error:
            if _begun(guarded):
                raise
            raise NotSent(str(error)) from error


class _AsyncGuard(_Guard):
    """For `psycopg.AsyncConnection`.

    A cancelled task has the server cancel its statement, as psycopg does, but gives it one second.
    """

    async def _until(self, deadline: float, connection: Any, guarded: Any) -> Any:
        from psycopg.waiting import wait_async

        interval = _interval(deadline)
        try:
            return await wait_async(guarded, connection.pgconn.socket, interval=interval)
        except _OverError:
            raise _broken_off(connection) from None
        except asyncio.CancelledError:
            if time.monotonic() > deadline - _CANCEL_SECONDS / 10:
                connection.pgconn.finish()  # it was cancelled because the time is over
                raise
            await surely(_cancel(connection, guarded))
            raise
        except Exception as error:
            if _begun(guarded):
                raise
            raise NotSent(str(error)) from error


def _broken_off(connection: Any) -> DeadlinePassed:
    # At once: whoever waits for this connection must not say something in the middle of the conversation.
    connection.pgconn.finish()
    return DeadlinePassed()


def _begun(guarded: Generator[Any, Any, Any]) -> bool:
    # Whoever had the connection before may have lost it.
    return inspect.getgeneratorstate(guarded) != inspect.GEN_CREATED


def _interval(deadline: float) -> float:
    # How often the deadline is looked at while nothing comes: the last look is just after it.
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotSent("the connection stayed in use until the time was over")
    if left > _LONGEST_TIMEOUT:
        return _LONGEST_WAIT
    return left / math.ceil(left / _LONGEST_WAIT) + 0.0005


def _guarded(generator: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    try:
        wants = next(generator)
        while True:
            ready = yield wants
            if not ready and time.monotonic() >= DEADLINE.get():
                raise _OverError
            wants = generator.send(ready)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def _cancel(connection: Any, rest: Generator[Any, Any, Any]) -> None:
    import psycopg
    from psycopg.waiting import wait_async

    deadline = time.monotonic() + _CANCEL_SECONDS
    DEADLINE.set(deadline)  # of this task only, which `surely` began for it
    try:
        await connection.cancel_safe(timeout=_CANCEL_SECONDS)
        await wait_async(rest, connection.pgconn.socket, interval=_interval(deadline))
    except psycopg.errors.QueryCanceled:
        return
    except Exception:  # noqa: BLE001 - whatever it was, the conversation is broken off
        connection.pgconn.finish()
