"""Answer the leader of a shared call with 304, when its client holds what the call brought.

The call itself asked for the whole response, because the others need it. So the answer is held back from
the moment its head shows that the client's copy is the current one, until it is stored; what is held is
what the collector holds anyway, so the same bound applies. If it cannot be stored after all, it is passed
on as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from holdfast.clock import Clock
from holdfast.edge._asgi import Message, Send
from holdfast.edge.collector import Collector
from holdfast.edge.conditional import is_not_modified
from holdfast.edge.entry import Entry
from holdfast.edge.storage import NotStorable

__all__ = ["Withheld"]


class Withheld:
    """Stands between a flight and the `send` of its leader.

    Args:
        collector: watches the same answer.
        send: passes messages on to the client.
        answer: answers the client from an entry, in place of the messages.
        clock: source of time.
    """

    def __init__(
        self, collector: Collector, send: Send, *, answer: Callable[[Entry], Awaitable[None]], clock: Clock
    ) -> None:
        self._collector = collector
        self._send = send
        self._answer = answer
        self._clock = clock
        self._held: list[Message] = []
        self._holding = False
        self._answered = False

    async def send(self, message: Message) -> None:
        """Pass `message` on, or hold it back."""
        if message["type"] == "http.response.start":
            self._holding = self._may_be_not_modified()
        if not self._holding:
            await self._send(message)
            return
        self._held.append(message)
        await self.release()

    async def release(self) -> None:
        """Answer as soon as it is known how; to be called once more after the last message."""
        outcome = self._collector.outcome
        if not self._holding or outcome is None:
            return
        held, self._held = self._held, []
        if isinstance(outcome, NotStorable):
            self._holding = False
            for message in held:
                await self._send(message)
        elif not self._answered:
            self._answered = True
            await self._answer(outcome)

    def _may_be_not_modified(self) -> bool:
        collector = self._collector
        if isinstance(collector.outcome, NotStorable):
            return False
        return is_not_modified(collector.request.headers, collector, wall=self._clock.wall())
