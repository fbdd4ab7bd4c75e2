"""One call of the origin that several requests wait for.

The application runs in a task of its own, so that no client owns it. The request that started it, the
leader, passes the messages on as they come; the followers wait until the response is stored or
cannot be.

    leader       lead() ----- start ----- chunk ----- (client goes away)
    application  ......... start ... chunk ... chunk ... end        one call
    followers    follow() ................................ Entry    nobody is stranded

The call is cancelled when the last of them has gone. A server does not cancel the leader when its
client hangs up, it says `http.disconnect` to whoever receives, so the leader listens. Once nobody can
share the response any more, the call is the leader's own: then the application hears of the disconnect
itself, as it would without a cache.

What the application sends waits in a queue that is bounded: by `max_body_bytes` while the response is
collected, by one message afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from holdfast.edge._asgi import Application, Message, Receive, Scope, Send, with_header_list
from holdfast.edge.collector import Collector
from holdfast.edge.entry import Entry
from holdfast.edge.storage import NotStorable

__all__ = ["Flight"]

_SERVER_ERROR = 500
Keep = Callable[[Collector], Awaitable[None]]


class Flight:
    """Runs one call. Made by `Flights`.

    Attributes:
        error: what the application raised, if it did.
    """

    def __init__(self, collector: Collector, *, keep: Keep, reading: bool) -> None:
        self.collector = collector
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self._keep = keep
        self._reading = reading
        self._waiters = 0
        self._outbox: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._landed = asyncio.Event()
        self._complete = asyncio.Event()
        # What ends the application's wait in receive(), and what it then hears (ASGI: "if the client
        # disconnects", and "if receive is called after a response has been sent").
        self._disconnect = asyncio.Event()
        self._abandoned = False
        self._returned = False
        self._asked = False

    @property
    def result(self) -> Entry | NotStorable | None:
        """The stored response, or why there is none; None when the call failed."""
        outcome = self.collector.outcome
        failed = self.error is not None or self.collector.status >= _SERVER_ERROR or not self.collector.status
        return None if failed and not isinstance(outcome, Entry) else outcome

    @property
    def landed(self) -> bool:
        """Whether `result` is known: there is nothing left to wait for."""
        return self._landed.is_set()

    @property
    def unheard(self) -> bool:
        """Whether no leader is there (any more) to be told of an error."""
        return not self._reading

    def take_off(self, application: Application, scope: Scope) -> None:
        """Start the call."""
        self.task = asyncio.create_task(self._fly(application, scope), name="holdfast-edge-flight")

    async def lead(self, receive: Receive, send: Send) -> None:
        """Pass the response on to `send` as it comes; raise what the application raises.

        Returns early when `receive` tells that the client is gone and others may still want the response.
        """
        self._waiters += 1
        listening = asyncio.create_task(self._listen(receive), name="holdfast-edge-listen")
        try:
            while not self._abandoned and (not self._returned or self._outbox):
                await self._wake.wait()
                self._wake.clear()
                await self._pass_on(send)
            if self.error is not None and not self._abandoned:
                raise self.error
        finally:
            listening.cancel()
            # An error that was raised here was heard; after a cancellation nobody is left to hear one.
            self._reading = self._returned
            self._outbox.clear()
            self._room.set()
            self._leave()

    async def _pass_on(self, send: Send) -> None:
        while self._outbox and not self._abandoned:
            await send(self._outbox.popleft())
        self._room.set()

    async def _listen(self, receive: Receive) -> None:
        """Wait for the leader's client to hang up."""
        try:
            gone = await _disconnected(receive)
        except Exception:  # noqa: BLE001 - it would concern an application that asks, and only that
            return
        if gone and self.collector.outcome is None:
            self._abandoned = True
            self._wake.set()
        elif gone:
            self._disconnect.set()

    async def follow(self, timeout: float) -> bool:  # noqa: ASYNC109 - cancels the call, not only the wait
        """Wait until the response is stored or cannot be; False when that took over `timeout` seconds."""
        return await self._wait(self._landed, timeout)

    async def finish(self, timeout: float) -> bool:  # noqa: ASYNC109 - see above
        """Wait for the whole response; False when that took over `timeout` seconds."""
        return await self._wait(self._complete, timeout)

    async def _wait(self, event: asyncio.Event, seconds: float) -> bool:
        self._waiters += 1
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return False
        finally:
            self._leave()

    def _leave(self) -> None:
        self._waiters -= 1
        # After its last message the application may still run work of its own (background tasks).
        if not self._waiters and self.task is not None and not self._complete.is_set():
            self.task.cancel()

    async def _fly(self, application: Application, scope: Scope) -> None:
        try:
            await application(scope, self._receive, self._send)
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self.collector.end()
            self._returned = True
            self._landed.set()
            self._complete.set()
            self._wake.set()

    async def _receive(self) -> Message:
        # A request with content never comes here, and no client's disconnect may end a shared call.
        if self._asked:
            await self._disconnect.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        message = with_header_list(message)
        collecting = self.collector.outcome is None
        self.collector.feed(message)
        if self._reading:
            self._outbox.append(message)
            self._wake.set()
        if collecting and self.collector.outcome is not None:
            await self._keep(self.collector)
            self._landed.set()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._complete.set()
            self._disconnect.set()
        # Nothing bounds the rest of a body that is not collected, so it comes at the reader's pace.
        if self._reading and self.collector.outcome is not None:
            self._room.clear()
            await self._room.wait()


async def _disconnected(receive: Receive) -> bool:
    """Wait until the client is gone; False when `receive` never tells.

    Content is dropped: this cache gives the application none. What comes after its end can only be the
    disconnect; a `receive` that answers something else would be asked for ever.
    """
    message = await receive()
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
    if message["type"] == "http.request":
        message = await receive()
    return bool(message["type"] == "http.disconnect")
