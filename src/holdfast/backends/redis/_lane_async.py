"""Connections of a redis.asyncio or valkey.asyncio pool: the twin of `_lane_sync`, on the event loop.

Two things are special here. The deadline hangs up: when it passes, the transport is aborted, and the
read that waits for the reply fails; nobody is cancelled, and the happy path pays for one timer. And a
cancelled task first reads the reply of a request that is in flight:

    task     EVALSHA acquire ->  cancelled
    cleaning                         EVALSHA release ->  (on another connection)
    server                                release: not held        acquire: granted, to nobody

The cleaning would overtake the request it cleans up after, were it let go at once.
"""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from holdfast.backends.redis._cluster import ASKING
from holdfast.backends.redis._metrics import count_taken
from holdfast.backends.redis.outcome import NotSent, must_reconnect

__all__ = ["Lane"]

# How long to wait for a full pool before looking again: a user's own code gives back without telling us.
_FULL_POOL_PAUSE = 0.05


class _Once:
    """Stands in for a connection's `Retry` while we connect: try once, within our own deadline."""

    async def call_with_retry(self, do: Callable[[], Any], *_: Any, **__: Any) -> Any:
        return await do()


class Lane:
    """One server's connections. Deadlines are moments on the event loop's clock."""

    __slots__ = ("_line", "pool")

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._line: deque[asyncio.Future[None]] = deque()

    @classmethod
    def of(cls, pool: Any) -> Lane:
        """Return the one lane of `pool`, so that all who wait for its connections stand in one line."""
        lane = getattr(pool, "_holdfast_lane", None)
        if lane is None:
            lane = pool._holdfast_lane = cls(pool)
        return lane

    async def exchange(
        self, packed: bytes, deadline: float, _: str | bytes = "", *, finish: bool, asking: bool = False
    ) -> Any:
        """Send `packed` and return the server's reply, which may be an error object.

        With `finish`, a cancellation is held back until the reply is here or the deadline has passed.
        With `asking`, the node of a cluster is told that another node has sent us.

        Raises:
            NotSent: it certainly did not reach the server.
            Exception: it was sent, and no answer came.
        """
        connection = await self._take(deadline)
        try:
            try:
                await _hand_over(connection, ASKING + packed if asking else packed, deadline)
                cancelled = (await _reply(connection, deadline, finish=finish))[1] if asking else None
                reply, late = await _reply(connection, deadline, finish=finish)
            except BaseException:
                # Whatever may still arrive on it belongs to nobody.
                await _drop(connection)
                raise
            if isinstance(reply, Exception) and must_reconnect(reply):
                await _drop(connection)
        finally:
            await self.pool.release(connection)
            self._wake()
        if cancelled := cancelled or late:
            raise cancelled
        return reply

    async def _take(self, deadline: float) -> Any:
        try:
            if self._line or not self.pool.can_get_connection():
                await self._stand_in_line(deadline)
            idle = getattr(self.pool, "_available_connections", None)
            reused = bool(idle)
            connection = self.pool.get_available_connection()
        except Exception as error:
            raise NotSent from error
        if idle is not None:
            count_taken(self.pool, on_loop=True, reused=reused)
        return connection

    async def _stand_in_line(self, deadline: float) -> None:
        """Wait until we are first and a connection is free; redis-py would fail at once."""
        loop, line = asyncio.get_running_loop(), self._line
        turn = loop.create_future()
        line.append(turn)
        try:
            while True:
                left = deadline - loop.time()
                if left <= 0:
                    message = "no free connection in the pool"
                    raise TimeoutError(message)
                await asyncio.wait((turn,), timeout=min(left, _FULL_POOL_PAUSE))
                if (turn.done() or line[0] is turn) and self.pool.can_get_connection():
                    return
                if turn.done():  # somebody was quicker
                    turn = loop.create_future()
                    line.appendleft(turn)
        finally:
            if not turn.done():
                line.remove(turn)

    def _wake(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return


async def _hand_over(link: Any, packed: bytes, deadline: float) -> None:
    """Give `packed` to the transport, on a connection that was not closed a moment ago."""
    try:
        fresh = link._writer is None or _stale(link)
        if fresh:
            await _connect(link, deadline)
        try:
            _send(link, packed)
        except OSError:
            if fresh:
                raise
            # The server closed the idle connection after we looked, and has not got all of the request.
            await _connect(link, deadline)
            _send(link, packed)
    except Exception as error:
        raise NotSent from error


def _send(link: Any, packed: bytes) -> None:
    transport = link._writer.transport
    transport.write(packed)
    # It was open before this call, and nothing else has run: so the very first send to the kernel failed.
    if transport.is_closing():
        message = "connection closed while sending"
        raise ConnectionError(message)


async def _reply(link: Any, deadline: float, *, finish: bool) -> tuple[Any, asyncio.CancelledError | None]:
    loop = asyncio.get_running_loop()
    hang_up = loop.call_at(deadline, link._writer.transport.abort)
    cancelled: asyncio.CancelledError | None = None
    try:
        while True:
            try:
                reply = await link._parser.read_response(disable_decoding=True)
            except asyncio.CancelledError as error:
                # Nothing is lost: what has been read of the reply stays in the stream and in the parser.
                if not finish:
                    raise
                cancelled = error
            except Exception as error:
                if cancelled is not None:
                    raise cancelled from error
                if loop.time() >= deadline:
                    message = "no answer within the deadline"
                    raise TimeoutError(message) from error
                raise
            else:
                if link.health_check_interval:
                    link.next_health_check = loop.time() + link.health_check_interval
                return reply, cancelled
    finally:
        hang_up.cancel()


def _stale(link: Any) -> bool:
    """Tell whether an idle connection was closed by the server, or holds what nobody waited for."""
    reader, transport = link._reader, link._writer.transport
    if transport.is_closing() or reader.at_eof() or reader._buffer:
        return True
    if link.health_check_interval and asyncio.get_running_loop().time() > link.next_health_check:
        # Idle for longer than the user trusts a connection: a new one is surer than a PING.
        return True
    # A busy loop may not have seen yet what the kernel knows.
    poller = select.poll()
    poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poller.poll(0))


async def _connect(link: Any, deadline: float) -> None:
    """Connect and log in, once, within the deadline."""
    await _drop(link)
    own = link.retry
    link.retry = _Once()
    try:
        async with asyncio.timeout_at(deadline):
            await link.connect()
    finally:
        link.retry = own


async def _drop(link: Any) -> None:
    if link._writer is not None:
        # Closing politely would wait until all is sent, which a frozen server never lets happen.
        link._writer.transport.abort()
        await link.disconnect(nowait=True)
