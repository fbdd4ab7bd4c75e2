"""A deadline that holds for every wait of a psycopg connection.

psycopg does its work in generators, and `Connection.wait` runs them: a server that hangs with the
connection open would be waited for without end. Here the generator is wrapped, so that it gives up
when the time is over and nothing has come. The work goes on in C; only waits are looked at.

After `DeadlinePassed` the connection is in the middle of a conversation: it can only be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from holdfast.backends._surely import surely

__all__ = ["AsyncGuard", "DeadlinePassed", "SyncGuard"]

T = TypeVar("T")
_LONGEST_WAIT = 0.1
_LONGEST_TIMEOUT = 1e6
_CANCEL_SECONDS = 1.0
"""How long the server gets to cancel the statement of a cancelled task."""


class DeadlinePassed(TimeoutError):
    """The server did not answer in time."""

    def __init__(self) -> None:
        super().__init__("the server did not answer in time")


class _OverError(Exception):
    # Not a TimeoutError: that is an OSError, which psycopg takes for a closed socket.
    pass


class _Guard:
    """The deadline of one connection; without one it waits as psycopg does."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.deadline = float("inf")
        self._wait = type(connection).wait.__get__(connection)

    def arm(self, seconds: float) -> None:
        """Let everything that the connection does from now on end after `seconds`, until `disarm`.

        The method `wait` is replaced on this one connection and only meanwhile, because it may be the
        user's own.
        """
        self.deadline = time.monotonic() + seconds
        self.connection.__dict__["wait"] = self.wait

    def disarm(self) -> None:
        """Let the connection wait as it did before."""
        self.connection.__dict__.pop("wait", None)
        self.deadline = float("inf")

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Arm it for a block."""
        self.arm(seconds)
        try:
            yield
        finally:
            self.disarm()

    def wait(self, generator: Any, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def _interval(self) -> float:
        # How often the deadline is looked at while nothing comes: the last look is just after it.
        left = max(0.001, self.deadline - time.monotonic())
        if left > _LONGEST_TIMEOUT:
            return _LONGEST_WAIT
        return left / math.ceil(left / _LONGEST_WAIT) + 0.0005

    def _guarded(self, generator: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wants = next(generator)
            while True:
                ready = yield wants
                if not ready and time.monotonic() >= self.deadline:
                    raise _OverError
                wants = generator.send(ready)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


class SyncGuard(_Guard):
    """For `psycopg.Connection`."""

    def wait(self, generator: Any, *_: Any, **__: Any) -> Any:
        """Run the generator until it is done or the time is over."""
        try:
            return self._wait(self._guarded(generator), interval=self._interval())
        except _OverError:
            raise DeadlinePassed from None


class AsyncGuard(_Guard):
    """For `psycopg.AsyncConnection`.

    A cancelled task has the server cancel its statement, as psycopg does, but gives it one second.
    """

    async def wait(self, generator: Any, *_: Any, **__: Any) -> Any:
        """Run the generator until it is done or the time is over."""
        from psycopg.waiting import wait_async

        guarded = self._guarded(generator)
        try:
            return await wait_async(guarded, self.connection.pgconn.socket, interval=self._interval())
        except _OverError:
            raise DeadlinePassed from None
        except asyncio.CancelledError:
            if time.monotonic() > self.deadline - _CANCEL_SECONDS / 10:
                self.connection.pgconn.finish()  # it was cancelled because the time is over
                raise
            await surely(self._cancel(guarded))
            raise

    async def _cancel(self, rest: Generator[Any, Any, Any]) -> None:
        import psycopg
        from psycopg.waiting import wait_async

        self.deadline = time.monotonic() + _CANCEL_SECONDS
        try:
            await self.connection.cancel_safe(timeout=_CANCEL_SECONDS)
            await wait_async(rest, self.connection.pgconn.socket, interval=self._interval())
        except psycopg.errors.QueryCanceled:
            return
        except Exception:  # noqa: BLE001 - whatever it was, the conversation is broken off
            self.connection.pgconn.finish()
