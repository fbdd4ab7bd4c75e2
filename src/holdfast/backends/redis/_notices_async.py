"""Notices from Redis (PUBLISH) for the tasks of an event loop that wait for something: one connection for all.

A watch is there from the first look to the last, also while its owner asks the store again, so that no notice
falls between two waits. One notice wakes one watch of each process, the oldest: what is free is free for one.

    waiter   ask: taken ─ watch ─ ask: taken ─ wait ···········▶ ask: granted
    holder                                        release ─ PUBLISH

A notice can be lost with its connection, so whoever waits looks again by itself from time to time.
"""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.backends.redis._link_async import connect, drop, ready
from holdfast.backends.redis.request import Next, pack

__all__ = ["Notices", "Watch"]

# The connection is kept for so many seconds after the last watch, so that it need not be opened for each.
_LINGER = 5.0


class Watch:
    """A place in the line of those who wait for notices on a channel."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        # Rung from the start: what happened before the subscription was told to nobody.
        self._rung = True
        self._bell: asyncio.Future[None] | None = None

    def next(self, seconds: float) -> Next:
        """Wait for the next notice, or for `seconds`."""
        return Next(self, seconds)

    async def wait(self, seconds: float) -> None:
        """Wait unless a notice has come since the last wait."""
        if not self._channel.subscribed:
            # The connection was lost; as long as it is away, looking from time to time must do.
            await self._channel.subscribe_again(seconds)
        elif not self._rung:
            self._bell = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait((self._bell,), timeout=seconds)
            finally:
                self._bell = None
        self._rung = False

    def ring(self) -> None:
        """Wake it."""
        self._rung = True
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def close(self) -> None:
        """Leave the line; a notice that was not used goes to the next."""
        self._channel.leave(self, unused=self._rung)


class _Channel:
    """The line of one channel."""

    def __init__(self, name: str, notices: Notices) -> None:
        self.name = name
        self.subscribed = False
        self.line: deque[Watch] = deque()
        self._notices = notices

    def ring_first(self) -> None:
        if self.line:
            self.line[0].ring()

    def leave(self, watch: Watch, *, unused: bool) -> None:
        with contextlib.suppress(ValueError):
            self.line.remove(watch)
            if unused:
                self.ring_first()
        if not self.line:
            self._notices.left(self)

    async def subscribe_again(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            await self._notices.subscribe(self, until)
        except Exception:  # noqa: BLE001 - whatever it was, the store itself will tell when it is asked
            await asyncio.sleep(until - loop.time())


class Notices:
    """The one connection for notices from a server.

    Args:
        take: takes a connection out of the pool, until a deadline on the loop's clock.
        give: gives it back.
    """

    def __init__(self, take: Callable[[float], Awaitable[Any]], give: Callable[[Any], Awaitable[None]]) -> None:
        self._take, self._give = take, give
        self._channels: dict[bytes, _Channel] = {}
        self._confirmed: dict[bytes, asyncio.Future[None]] = {}
        self._link: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._closing: asyncio.TimerHandle | None = None

    async def watch(self, name: str, deadline: float) -> Watch:
        """Stand in line for notices on the channel `name`, once the server has confirmed it.

        Raises:
            Exception: there is no connection, or this user may not subscribe.
        """
        key = name.encode()
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel(name, self)
        watch = Watch(channel)
        channel.line.append(watch)
        try:
            if not channel.subscribed:
                await self.subscribe(channel, deadline)
        except BaseException:
            watch.close()
            raise
        return watch

    async def subscribe(self, channel: _Channel, deadline: float) -> None:
        """Have the server confirm that it tells us what is published there."""
        async with asyncio.timeout_at(deadline):
            async with self._opening:
                if self._link is None:
                    await self._open(deadline)
            key = channel.name.encode()
            confirmed = self._confirmed.get(key)
            if confirmed is None:
                confirmed = self._confirmed[key] = asyncio.get_running_loop().create_future()
                self._link._writer.write(pack(("SUBSCRIBE", channel.name)))
            await asyncio.shield(confirmed)

    def left(self, channel: _Channel) -> None:
        """Note that nobody waits there any more."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(_LINGER, self._tidy)
        del channel

    # -- The connection ------------------------------------------------------------------------------------------

    async def _open(self, deadline: float) -> None:
        link = await self._take(deadline)
        try:
            if not ready(link):
                await connect(link, deadline)
        except BaseException:
            await drop(link)
            await self._give(link)
            raise
        self._link = link
        self._reading = asyncio.create_task(self._read(link))

    async def _read(self, link: Any) -> None:
        failure: Exception = ConnectionError("the connection for notices was closed")
        try:
            while True:
                self._heard(await link._parser.read_response(disable_decoding=True, push_request=True))
        except Exception as error:  # noqa: BLE001 - whatever it was, the connection is of no more use
            failure = error
        finally:
            self._link = self._reading = None
            self._forget(failure)
            await drop(link)
            await self._give(link)

    def _heard(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise reply  # this user may not subscribe
        kind, key = reply[0], reply[1]
        channel = self._channels.get(key)
        if kind == b"message":
            if channel is not None:
                channel.ring_first()
        elif kind == b"subscribe":
            if channel is not None:
                channel.subscribed = True
            if (confirmed := self._confirmed.pop(key, None)) is not None and not confirmed.done():
                confirmed.set_result(None)

    def _forget(self, failure: Exception) -> None:
        # Everybody looks at once: what was published meanwhile was told to nobody.
        waiting, self._confirmed = self._confirmed, {}
        for confirmed in waiting.values():
            if not confirmed.done():
                confirmed.set_exception(failure)
                confirmed.exception()  # looked at, in case nobody waits any more
        for channel in self._channels.values():
            channel.subscribed = False
            for watch in channel.line:
                watch.ring()

    def _tidy(self) -> None:
        """Unsubscribe where nobody waits; hang up when nobody waits anywhere."""
        self._closing = None
        empty = [key for key, channel in self._channels.items() if not channel.line]
        for key in empty:
            del self._channels[key]
        if not self._channels:
            if self._reading is not None:
                self._reading.cancel()
        elif empty and self._link is not None:
            self._link._writer.write(pack(("UNSUBSCRIBE", *empty)))
