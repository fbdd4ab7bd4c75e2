"""One connection that all requests of an event loop share while any of them is under way.

What is asked in one turn of the loop goes out in one write, and replies are matched in the order in
which the requests were sent, which is the order in which Redis answers:

    task 1   ask ─┐                    ┌─▶ reply 1
    task 2   ask ─┼─▶ one write ══▶ ══▶┼─▶ reply 2      one read
    task 3   ask ─┘                    └─▶ reply 3

A request keeps its place until its reply is here, also when nobody waits for it any more. A request
whose deadline has passed is given up alone; if nothing at all came in while it waited, the connection may
be dead, and no further request is sent on it.

redis-py opens the connection, logs in and parses; here only the reading of the socket is taken over for
as long as requests are under way.
"""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from holdfast.backends.redis.outcome import NotSent, must_reconnect

__all__ = ["LAST_WORD", "Place", "Wire", "answered", "can_coalesce"]

# Seconds that a cancelled task waits for the reply of what it has under way.
LAST_WORD = 1.0


def can_coalesce(link: Any) -> bool:
    """Tell whether the connected `link` parses replies in C, and can tell them from what a server pushes."""
    parser = link._parser
    if not hasattr(getattr(parser, "_reader", None), "gets"):
        return False
    return link.protocol in {2, "2"} or _push_type(parser) is not None


def _nothing_yet(parser: Any) -> Any:
    """Return what the parser's reader gives when it has no whole reply; a cluster's parser inherits it."""
    modules = [sys.modules[kind.__module__] for kind in type(parser).__mro__]
    return next(module.NOT_ENOUGH_DATA for module in modules if hasattr(module, "NOT_ENOUGH_DATA"))


def _push_type(parser: Any) -> Any:
    return getattr(parser, "_hiredis_PushNotificationType", None)


class Place:
    """A request's place in the order of replies."""

    __slots__ = ("deadline", "heard", "reply")

    def __init__(self, reply: asyncio.Future[Any] | None, deadline: float, heard: int) -> None:
        self.reply = reply
        self.deadline = deadline
        self.heard = heard
        """How much had come in on the connection when this was asked."""


class Wire(asyncio.Protocol):
    """A connection while it is shared. `left` is called once it is of no more use, with nobody waiting."""

    def __init__(self, link: Any, left: Callable[[Wire], None]) -> None:
        self.link = link
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.usable = True
        """Whether further requests may be sent on it."""
        self.waiting = 0
        """How many callers wait for something on it."""
        self.given_back = False
        """Whether it is on its way back into the pool; set by its lane."""
        self._left = left
        self._reader = link._parser._reader
        self._nothing = _nothing_yet(link._parser)
        self._pushed = _push_type(link._parser) or ()
        self._places: deque[Place] = deque()
        self._unsent: list[bytes] = []
        self._unsent_places = 0
        self._heard = 0
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._transport = link._writer.transport
        self._own_protocol = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def in_flight(self) -> int:
        """How many replies are still to come."""
        return len(self._places)

    def ask(self, packed: bytes, deadline: float, *, skip: int = 0) -> Place:
        """Send `packed` with what else is asked in this turn of the loop; `skip` replies come before its own."""
        for _ in range(skip):
            self._place(None, deadline)
        place = self._place(self.loop.create_future(), deadline)
        if not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent.append(packed)
        if deadline < self._due:
            self._look_at(deadline)
        return place

    def _place(self, reply: asyncio.Future[Any] | None, deadline: float) -> Place:
        place = Place(reply, deadline, self._heard)
        self._places.append(place)
        self._unsent_places += 1
        return place

    def _send(self) -> None:
        packed, self._unsent = b"".join(self._unsent), []
        count, self._unsent_places = self._unsent_places, 0
        if not count:
            return
        self._transport.write(packed)
        # It was open before this call, and nothing else has run: so the very first send to the kernel failed.
        if self._transport.is_closing():
            self._fail_unsent(count, ConnectionError("connection closed while sending"))

    def _fail_unsent(self, count: int, reason: Exception) -> None:
        self.usable = False
        for place in [self._places.pop() for _ in range(count)]:
            if place.reply is not None and not place.reply.done():
                failed = NotSent()
                failed.__cause__ = reason
                place.reply.set_exception(failed)

    # -- What the loop tells -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give each reply to whoever has the first place."""
        self._heard += 1
        reader, nothing, pushed, places = self._reader, self._nothing, self._pushed, self._places
        try:
            reader.feed(data)
            while (reply := reader.gets(False)) is not nothing:  # noqa: FBT003 - its name is not the same everywhere
                if pushed and isinstance(reply, pushed):
                    continue
                waiter = places.popleft().reply
                if waiter is not None and not waiter.done():
                    waiter.set_result(reply)
                if isinstance(reply, Exception) and must_reconnect(reply):
                    self.usable = False
        except Exception as error:  # noqa: BLE001 - what cannot be parsed, or what nobody asked for
            self._break(error)
        if not places and not self.waiting:
            self._left(self)

    def eof_received(self) -> None:
        """Take a half-closed connection for a closed one."""
        self._own_protocol.eof_received()
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait: what had been sent may have been done."""
        self._own_protocol.connection_lost(error)
        self._break(error or ConnectionError("the server has closed the connection"))
        if not self.waiting:
            self._left(self)

    def pause_writing(self) -> None:
        """Go on: what can be under way is bounded, and so is what the transport keeps."""
        self._own_protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on what the transport says."""
        self._own_protocol.resume_writing()

    def _break(self, error: Exception) -> None:
        count, self._unsent_places = self._unsent_places, 0
        self._unsent = []
        self._fail_unsent(count, error)
        while self._places:
            waiter = self._places.popleft().reply
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
        self._transport.abort()

    # -- Deadlines ---------------------------------------------------------------------------------------------

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = moment
        self._timer = self.loop.call_at(moment, self._give_up_what_is_due)

    def _give_up_what_is_due(self) -> None:
        # One timer for all: most requests have the same time to live, so it moves once in that time.
        now, self._due, self._timer = self.loop.time(), math.inf, None
        silent = False
        due = math.inf
        for place in self._places:
            if place.deadline <= now:
                silent = silent or place.heard == self._heard
                if place.reply is not None and not place.reply.done():
                    place.reply.set_exception(TimeoutError("no answer within the deadline"))
            else:
                due = min(due, place.deadline)
        self.usable = self.usable and not silent
        if due < math.inf:
            self._look_at(due)
        elif silent:
            self._break(TimeoutError("no answer within the deadline"))

    def hand_back(self) -> None:
        """Let redis-py read again."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.set_protocol(self._own_protocol)
        if self.link.health_check_interval:
            self.link.next_health_check = self.loop.time() + self.link.health_check_interval


async def answered(wire: Wire, place: Place, *, finish: bool) -> Any:
    """Wait for the reply; with `finish`, a cancelled task still waits for it, but not for long."""
    assert place.reply is not None
    try:
        return await place.reply
    except asyncio.CancelledError:
        if finish and place.reply.cancelled():
            await _last_word(wire, place)
        raise


async def _last_word(wire: Wire, place: Place) -> None:
    # The cancellation has cancelled the future, too; the place is still there.
    reply = place.reply = wire.loop.create_future()
    until = min(place.deadline, wire.loop.time() + LAST_WORD)
    while not reply.done() and (left := until - wire.loop.time()) > 0:
        try:
            await asyncio.wait((reply,), timeout=left)
        except asyncio.CancelledError:
            continue  # the first is on its way already
    if not reply.cancel() and not reply.cancelled():
        reply.exception()  # looked at, so that asyncio does not report it
