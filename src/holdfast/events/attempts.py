"""One try of one message: its transaction, the handler within, and what becomes of a failure.

There are two kinds of messages to try, and they differ only in where they are: a `Fresh` one was just
handed out by the broker, a `Waiting` one is kept in the consumer's own database since it failed, or
since an earlier one of its key did.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from holdfast import checks, signals
from holdfast.errors import BackendError, ConfigurationError
from holdfast.events._endless import backoff
from holdfast.events._json import Unreadable
from holdfast.events.dead_letters import described, tell_buried
from holdfast.events.message import Message, check_message, legal
from holdfast.events.store import Arrival, Inbox, Pending
from holdfast.operations import Atomic, Run, Steps

__all__ = ["Attempts", "DuplicateSkipped", "Fresh", "MessageFailed", "MessageHandled", "Waiting", "check_handler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHandled(signals.Signal):
    """A message had its effect."""

    consumer: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateSkipped(signals.Signal):
    """A message was handed out again and had its effect before."""

    consumer: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFailed(signals.Signal):
    """A handler raised; nothing of it remains, and the message is tried again or given up."""

    consumer: str
    message_id: str
    attempts: int
    error: Exception


class Fresh:
    """A message that the broker handed out."""

    attempts = 0

    def __init__(self, inbox: Inbox, consumer: str, message: Message) -> None:
        self._inbox = inbox
        self._consumer = consumer
        self.message = message

    def take(self) -> Steps[Arrival]:
        """Note it, so that it is a duplicate from now on; let it wait if it has to."""
        arrival = yield from self._inbox.open(self._consumer, self.message)
        if arrival is Arrival.BEHIND:
            yield from self._inbox.defer(self._consumer, self.message, 0, 0.0, "")
        return arrival

    def claim(self) -> Steps[bool]:
        """Note it, to give it up; False if another process dealt with it."""
        return (yield from self._inbox.open(self._consumer, self.message)) is not Arrival.DUPLICATE

    def wait(self, attempts: int, delay: float, error: str) -> Steps[bool]:
        """Keep it for another try; False if another process dealt with it in the meantime."""
        if not (yield from self.claim()):
            return False
        yield from self._inbox.defer(self._consumer, self.message, attempts, delay, error)
        return True


class Waiting:
    """A message that waits in the consumer's database."""

    def __init__(self, inbox: Inbox, pending: Pending) -> None:
        self._inbox = inbox
        self._number = pending.number
        self.attempts: int = pending.attempts
        self.message: Message = pending.message

    def take(self) -> Steps[Arrival]:
        """Take it out; a duplicate if another process did."""
        return Arrival.NEW if (yield from self.claim()) else Arrival.DUPLICATE

    def claim(self) -> Steps[bool]:
        """Take it out; False if another process did."""
        return (yield from self._inbox.take(self._number))

    def wait(self, attempts: int, delay: float, error: str) -> Steps[bool]:
        """Let it wait again, in its place; False if another process dealt with it in the meantime."""
        return (yield from self._inbox.put_off(self._number, attempts, delay, error))


class _Call:
    """What happened to the handler within a transaction, seen from outside of it."""

    error: Exception | None = None
    misused = False


@dataclass(frozen=True, slots=True)
class Attempts:
    """How a consumer tries a message: whatever dies in between, effect and inbox are both there or none."""

    driver: Any
    inbox: Inbox
    consumer: str
    topic: str
    handler: Callable[[Any, Message], Any]
    max_attempts: int
    retry_delay: float

    def fresh(self, message: Message) -> Steps[bool]:
        """Try what the broker handed out, or give it up at once if it can be neither handled nor kept."""
        try:
            check_message(message)
            self._check_topic(message)
        except ConfigurationError as error:
            lost = Fresh(self.inbox, self.consumer, legal(message, self.topic))
            return (yield from self._giving_up(lost, 0, described(error)))
        return (yield from self._trying(Fresh(self.inbox, self.consumer, message)))

    def again(self, pending: Pending) -> Steps[bool]:
        """Try what waits. False if it waits again, so that later ones of its key have to wait, too."""
        one = Waiting(self.inbox, pending)
        if isinstance(pending.message.payload, Unreadable):
            return (yield from self._giving_up(one, one.attempts, pending.message.payload.why))
        return (yield from self._trying(one))

    def _check_topic(self, message: Message) -> None:
        # Under another topic it would never be found again when it has to wait.
        if message.topic != self.topic:
            raise ConfigurationError(
                f"topic={message.topic!r} is not legal: the consumer asked for {self.topic!r}", parameter="topic"
            )

    def _trying(self, one: Fresh | Waiting) -> Steps[bool]:
        call = _Call()

        def handling() -> Steps[Arrival]:
            arrival = yield from one.take()
            if arrival is Arrival.NEW:
                yield from self._calling(one.message, call)
            return arrival

        try:
            arrival = yield from Atomic(handling)
        except Exception as error:
            if _not_the_handlers(call, error):
                raise
            return (yield from self._failing(one, call.error or error))
        self._tell(arrival, one)
        return arrival is not Arrival.BEHIND

    def _calling(self, message: Message, call: _Call) -> Steps[None]:
        call.error = None  # a transaction may be started again
        try:
            result: object = yield Run(self.handler, message, join=True)
        except Exception as error:
            call.error = error
            raise
        if isinstance(result, Awaitable):
            # It did nothing yet, and nobody would await it: its effect would be lost for good.
            call.misused = True
            if inspect.iscoroutine(result):
                result.close()
            raise _wrong_handler(self.handler, is_async=False)

    def _failing(self, one: Fresh | Waiting, error: Exception) -> Steps[bool]:
        """Keep the message for another try, or as a dead letter; False if it waits."""
        attempts, text = one.attempts + 1, described(error)
        if attempts >= self.max_attempts:
            return (yield from self._giving_up(one, attempts, text, error))
        delay = backoff(attempts, self.retry_delay, self.driver.random)
        if (yield from Atomic(lambda: one.wait(attempts, delay, text))):
            self._tell_failed(one.message, attempts, error)
        return False

    def _giving_up(self, one: Fresh | Waiting, attempts: int, text: str, error: Exception | None = None) -> Steps[bool]:
        """Keep the message as a dead letter, once; True."""

        def burying() -> Steps[bool]:
            claimed = yield from one.claim()
            if claimed:
                yield from self.inbox.bury(self.consumer, one.message, attempts, text)
            return claimed

        if (yield from Atomic(burying)):
            if error is not None:
                self._tell_failed(one.message, attempts, error)
            tell_buried(self.consumer, one.message, attempts, text)
        return True

    def _tell(self, arrival: Arrival, one: Fresh | Waiting) -> None:
        if not signals.subscribers:
            return
        if arrival is Arrival.NEW:
            signals.emit(MessageHandled(consumer=self.consumer, message_id=one.message.id))
        elif arrival is Arrival.DUPLICATE and isinstance(one, Fresh):
            signals.emit(DuplicateSkipped(consumer=self.consumer, message_id=one.message.id))

    def _tell_failed(self, message: Message, attempts: int, error: Exception) -> None:
        if signals.subscribers:
            signals.emit(MessageFailed(consumer=self.consumer, message_id=message.id, attempts=attempts, error=error))


def _not_the_handlers(call: _Call, error: Exception) -> bool:
    # Without an error of the handler, a BackendError is the store's own: waiting mends it.
    return call.misused or (call.error is None and isinstance(error, BackendError))


def check_handler(handler: Any, *, is_async: bool) -> None:
    """Refuse a handler that is none, or of the other colour."""
    if not callable(handler):
        message = f"handler={checks.shown(handler)} is not legal: give a function of (tx, message)"
        raise ConfigurationError(message, parameter="handler")
    if inspect.iscoroutinefunction(handler) is is_async:
        return
    # An object or lambda may still return an awaitable; only a plain function certainly does not.
    if not is_async or (inspect.isfunction(handler) and handler.__name__ != "<lambda>"):
        raise _wrong_handler(handler, is_async=is_async)


def _wrong_handler(handler: Any, *, is_async: bool) -> ConfigurationError:
    wanted = "`async def`: its client is an asyncio one" if is_async else "`def`: its client is a blocking one"
    return ConfigurationError(f"handler {handler!r} must be {wanted}", parameter="handler")
