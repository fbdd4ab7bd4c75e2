"""Connections of a redis.asyncio or valkey.asyncio pool: the twin of `_lane_sync`, on the event loop.

Requests share one connection while any is under way (`_wire_async`); it is taken out of the user's pool
for that time. A request that the server keeps waiting on purpose gets a connection of its own, and so
does every request where replies are not parsed in C, or where sharing is switched off.

The deadline hangs up: when it passes, the transport is aborted, and the read that waits for the reply
fails; nobody is cancelled, and the happy path pays for one timer at most. And a cancelled task first
reads the reply of a request that is in flight, for a second at most:

    task     EVALSHA acquire ->  cancelled
    cleaning                         EVALSHA release ->  (perhaps on another connection)
    server                                release: not held        acquire: granted, to nobody

The cleaning could overtake the request it cleans up after, were it let go at once.
"""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import asyncio
from typing import Any

from holdfast.backends.redis._cluster import ASKING
from holdfast.backends.redis._line_async import Line
from holdfast.backends.redis._link_async import connect, drop, ready, send
from holdfast.backends.redis._metrics import count_taken
from holdfast.backends.redis._notices_async import Notices, Watch
from holdfast.backends.redis._wire_async import LAST_WORD, Wire, answered, can_coalesce
from holdfast.backends.redis.outcome import NotSent, must_reconnect

__all__ = ["MAX_IN_FLIGHT", "Lane"]

# How long to wait for a full pool before looking again: a user's own code gives back without telling us.
_FULL_POOL_PAUSE = 0.05
MAX_IN_FLIGHT = 10_000


class Lane:
    """One server's connections. Deadlines are moments on the event loop's clock.

    Args:
        pool: the user's pool, or what looks like one.
        coalesce: whether requests share a connection where they can.
        max_in_flight: most requests that share it at a time, >= 1; further ones wait for their turn.
    """

    __slots__ = (
        "_coalesce",
        "_leaving",
        "_loop",
        "_notices",
        "_opening",
        "_pool_line",
        "_wire",
        "_wire_line",
        "max_in_flight",
        "pool",
    )

    def __init__(self, pool: Any, *, coalesce: bool = True, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.pool = pool
        self.max_in_flight = max_in_flight
        self._coalesce = coalesce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forget_loop()

    @classmethod
    def of(cls, pool: Any, *, coalesce: bool = True, max_in_flight: int = MAX_IN_FLIGHT) -> Lane:
        """Return the one lane of `pool`, so that all who wait for its connections stand in one line."""
        lanes: dict[bool, Lane] | None = getattr(pool, "_holdfast_lanes", None)
        if lanes is None:
            lanes = pool._holdfast_lanes = {}
        if coalesce not in lanes:
            lanes[coalesce] = cls(pool, coalesce=coalesce, max_in_flight=max_in_flight)
        return lanes[coalesce]

    def _forget_loop(self) -> None:
        self._wire: Wire | None = None
        self._opening: asyncio.Future[Exception | None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._pool_line, self._wire_line = Line(_FULL_POOL_PAUSE), Line(_FULL_POOL_PAUSE)
        self._notices: Notices | None = None

    async def exchange(
        self,
        packed: bytes,
        deadline: float,
        _: str | bytes = "",
        *,
        finish: bool,
        alone: bool = False,
        asking: bool = False,
    ) -> Any:
        """Send `packed` and return the server's reply, which may be an error object.

        With `finish`, a cancellation is held back until the reply is here, or for a second.
        With `alone`, nothing else is sent on the connection meanwhile.
        With `asking`, the node of a cluster is told that another node has sent us.

        Raises:
            NotSent: it certainly did not reach the server.
            Exception: it was sent, and no answer came.
        """
        if asking:
            packed = ASKING + packed
        again = True
        while self._coalesce and not alone:
            wire = self._wire
            if (
                wire is None
                or not wire.usable
                or wire.in_flight >= self.max_in_flight
                or wire.loop is not asyncio.get_running_loop()
            ):
                await self._room_on_wire(deadline)
                continue
            wire.waiting += 1
            try:
                return await answered(wire, wire.ask(packed, deadline, skip=asking), finish=finish)
            except NotSent:
                # The server closed the idle connection after we looked, and has not got any of the request.
                if not again:
                    raise
                again = False
            finally:
                wire.waiting -= 1
                if not wire.waiting and not wire.in_flight:
                    await self._leave(wire)
                elif self._wire_line:
                    self._wire_line.wake()
        return await self._alone(packed, deadline, finish=finish, skip=asking)

    async def watch(self, channel: str, deadline: float) -> Watch:
        """Stand in line for notices on `channel`."""
        await self._settle_in_loop()
        if self._notices is None:
            self._notices = Notices(self._take, self._give)
        return await self._notices.watch(channel, deadline)

    # -- The shared connection -----------------------------------------------------------------------------------

    async def _room_on_wire(self, deadline: float) -> None:
        """See to it that there is a shared connection with room, or that we know that there can be none."""
        await self._settle_in_loop()
        try:
            if self._wire is not None and self._wire.usable:
                await self._wire_line.wait(deadline, self._has_room)
            elif self._opening is not None:
                await self._await_opening(self._opening, deadline)
            else:
                await self._open(deadline)
        except NotSent:
            raise
        except Exception as error:
            raise NotSent from error

    def _has_room(self) -> bool:
        wire = self._wire
        return wire is None or not wire.usable or wire.in_flight < self.max_in_flight

    async def _settle_in_loop(self) -> None:
        # A client may be used on one event loop after the other; what the last one left behind is of no use.
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        left, self._loop = self._wire, loop
        self._forget_loop()
        if left is not None:
            await drop(left.link)
            await self.pool.release(left.link)

    async def _open(self, deadline: float) -> None:
        opening = self._opening = asyncio.get_running_loop().create_future()
        failed: Exception | None = None
        try:
            link = await self._take(deadline)
            try:
                if not ready(link):
                    await connect(link, deadline)
                if can_coalesce(link):
                    self._wire = Wire(link, self._left)
                else:
                    self._coalesce = False
            except BaseException:
                await drop(link)
                raise
            finally:
                if self._wire is None or self._wire.link is not link:
                    await self._give(link)
        except Exception as error:
            failed = error
            raise
        finally:
            self._opening = None
            opening.set_result(failed)

    async def _await_opening(self, opening: asyncio.Future[Exception | None], deadline: float) -> None:
        done, _ = await asyncio.wait((opening,), timeout=deadline - asyncio.get_running_loop().time())
        if not done:
            raise TimeoutError("no connection within the deadline")
        failed = opening.result()
        # What it waited for in vain may have been a shorter deadline than ours.
        if failed is not None and not isinstance(failed.__cause__ or failed, TimeoutError):
            raise NotSent from failed

    async def _leave(self, wire: Wire) -> None:
        """Give the connection back to the user's pool: nothing is in flight on it."""
        if self._let_go(wire):
            await self._give_wire(wire)

    def _left(self, wire: Wire) -> None:
        # Its last request was answered, or broken off, with nobody waiting for it.
        if self._let_go(wire):
            task = asyncio.ensure_future(self._give_wire(wire))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _let_go(self, wire: Wire) -> bool:
        """See to it that nobody asks on it any more; whether it is ours to give back."""
        if self._wire is wire:
            self._wire = None
        first, wire.given_back = not wire.given_back, True
        return first

    async def _give_wire(self, wire: Wire) -> None:
        wire.hand_back()
        if not wire.usable:
            await drop(wire.link)
        await self._give(wire.link)
        if self._wire_line:
            self._wire_line.wake()

    # -- Connections of one request ------------------------------------------------------------------------------

    async def _alone(self, packed: bytes, deadline: float, *, finish: bool, skip: bool) -> Any:
        link = await self._take(deadline)
        cancelled = late = None
        try:
            try:
                await _hand_over(link, packed, deadline)
                if skip:
                    _, cancelled = await _reply(link, deadline, finish=finish)
                reply, late = await _reply(link, deadline, finish=finish)
            except BaseException:
                # Whatever may still arrive on it belongs to nobody.
                await drop(link)
                raise
            if isinstance(reply, Exception) and must_reconnect(reply):
                await drop(link)
        finally:
            await self._give(link)
        if cancelled := cancelled or late:
            raise cancelled
        return reply

    # -- The pool ------------------------------------------------------------------------------------------------

    async def _take(self, deadline: float) -> Any:
        try:
            await self._settle_in_loop()
            if self._pool_line or not self.pool.can_get_connection():
                await self._pool_line.wait(deadline, self.pool.can_get_connection)
            idle = getattr(self.pool, "_available_connections", None)
            reused = bool(idle)
            link = self.pool.get_available_connection()
        except Exception as error:
            raise NotSent from error
        if idle is not None:
            count_taken(self.pool, on_loop=True, reused=reused)
        return link

    async def _give(self, link: Any) -> None:
        await self.pool.release(link)
        self._pool_line.wake()


async def _hand_over(link: Any, packed: bytes, deadline: float) -> None:
    """Give `packed` to the transport, on a connection that was not closed a moment ago."""
    try:
        fresh = not ready(link)
        if fresh:
            await connect(link, deadline)
        try:
            send(link, packed)
        except OSError:
            if fresh:
                raise
            # The server closed the idle connection after we looked, and has not got all of the request.
            await connect(link, deadline)
            send(link, packed)
    except Exception as error:
        raise NotSent from error


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
                cancelled = cancelled or error
                hang_up.cancel()
                deadline = min(deadline, loop.time() + LAST_WORD)
                hang_up = loop.call_at(deadline, link._writer.transport.abort)
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
