"""`Consumer`: the effect of each message exactly once, where effect and inbox share a database.

Per message one transaction: note the message id in the inbox, run the handler with the transaction,
commit; then tell the broker. Whatever dies in between, either both are there or none, and the broker
hands the message out again:

    begin ── inbox(id) ── handler(tx, message) ── commit ── ack
                                                        ▲ killed here: handed out again, found in the
                                                          inbox, acknowledged without running

A handler that raises is rolled back. Its message waits in the consumer's own database for another try,
and later messages of its key wait behind it, while all others go on. After `max_attempts` it becomes a
dead letter.

What it does not make exactly once: effects elsewhere. An HTTP call in a handler happens again when the
transaction is rolled back; give the receiver the message id as its idempotency key.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.drivers import AsyncDriver
from holdfast.errors import BackendError, ConfigurationError
from holdfast.events._endless import LONGEST_DELAY, backoff, endless, never
from holdfast.events._pruning import prune_beside
from holdfast.events.broker import Broker, OwnBroker, check_colour
from holdfast.events.dead_letters import described, tell_buried
from holdfast.events.message import Message
from holdfast.events.store import Arrival, Inbox, Pending, store_of
from holdfast.operations import Async, Atomic, C, Pattern, Request, Run, Steps, Sync, operation

__all__ = ["Consumer", "ConsumerFailed", "DuplicateSkipped", "MessageFailed", "MessageHandled", "consumer"]

DEFAULT_BATCH_SIZE = 100
DEFAULT_POLL_INTERVAL = 0.05
DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_RETRY_DELAY = 1.0
DEFAULT_INBOX_AGE = 7 * 86_400.0
# Seconds of handling after which the broker hears of it, also in the middle of a batch.
ACK_EVERY = 1.0

SyncHandler = Callable[[Any, Message], object]
AsyncHandler = Callable[[Any, Message], Awaitable[object]]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerFailed(signals.Signal):
    """A turn of the consumer failed and is tried again: the store or the broker is away."""

    consumer: str
    error: Exception


class _Attempt:
    """What happened to the handler within a transaction, seen from outside of it."""

    error: Exception | None = None
    misused = False


class Consumer(Pattern[C], Generic[C]):
    """Handle the messages of one topic, each with its effect once.

    Args:
        client: a client or backend of SQLite or PostgreSQL: where the handler's effects and the inbox are.
        broker: hands the messages out; of the same colour as `client`.
        name: whose inbox it is, 1 to 255 printable characters. Processes with the same name share the
            work; a new name sees every message that the broker still has.
        handler: called as `handler(tx, message)`; `tx` is the open transaction, usable as the client of
            any pattern and with `tx.execute(sql, parameters)`. May be called again after a rollback.
        topic: which messages, 1 to 255 printable characters.
        batch_size: most messages taken from the broker at once, >= 1.
        poll_interval: seconds between two looks while there is nothing to do, > 0 and at most 24 days.
        max_attempts: how often a handler may raise for a message before it becomes a dead letter, >= 1.
        retry_delay: seconds before a failed message is tried again, > 0; doubles up to a minute.
        inbox_age: seconds for which a message is recognised as a duplicate at least, > 0. Longer than
            the broker may take to hand a message out again.

    Raises:
        ConfigurationError: an argument is not legal; memory, whose transactions hold no function.
    """

    @overload
    def __init__(
        self: Consumer[Async],
        client: AsyncClient,
        broker: Broker | OwnBroker[Async],
        name: str,
        handler: AsyncHandler,
        *,
        topic: str,
        batch_size: int = ...,
        poll_interval: float = ...,
        max_attempts: int = ...,
        retry_delay: float = ...,
        inbox_age: float = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Consumer[Sync],
        client: SyncClient,
        broker: Broker | OwnBroker[Sync],
        name: str,
        handler: SyncHandler,
        *,
        topic: str,
        batch_size: int = ...,
        poll_interval: float = ...,
        max_attempts: int = ...,
        retry_delay: float = ...,
        inbox_age: float = ...,
    ) -> None: ...
    def __init__(
        self,
        client: Any,
        broker: Broker | OwnBroker[Any],
        name: str,
        handler: Callable[[Any, Message], Any],
        *,
        topic: str,
        batch_size: int = DEFAULT_BATCH_SIZE,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        retry_delay: float = DEFAULT_RETRY_DELAY,
        inbox_age: float = DEFAULT_INBOX_AGE,
    ) -> None:
        self.name: str = checks.key("name", name)
        self.topic: str = checks.key("topic", topic)
        self.batch_size: int = checks.at_least("batch_size", batch_size, 1)
        self.poll_interval: float = checks.timeout("poll_interval", poll_interval)
        self.max_attempts: int = checks.at_least("max_attempts", max_attempts, 1)
        self.retry_delay: float = checks.positive("retry_delay", retry_delay)
        self.inbox_age: float = checks.positive("inbox_age", inbox_age)
        self._driver = adopt(client)
        self._inbox: Inbox = store_of(self._driver, "inbox", "Consumer")
        check_colour(self._driver, broker, "receive", "ack")
        self._broker: Any = broker
        _check_handler(handler, is_async=isinstance(self._driver, AsyncDriver))
        self._handler = handler

    @operation
    def run_once(self) -> Steps[int]:
        """Deal with what is due and with one batch; return how many messages that were.

        Raises:
            BackendError: the store or the broker is away; what was not committed comes again.
        """
        return (yield from self._turn())

    @operation
    def run(self, *, stop: Callable[[], bool] = never) -> Steps[None]:
        """Deal with messages until `stop()` returns True; it is asked between batches.

        Pass `event.is_set` of a `threading.Event` or `asyncio.Event`; a task may also be cancelled. A
        store or broker that is away is waited for.
        """
        yield from endless(
            self._driver,
            self._turn,
            poll_interval=self.poll_interval,
            stop=stop,
            failed=self._tell_failure,
        )

    def _turn(self) -> Steps[int]:
        due = yield from self._inbox.due(self.name, self.topic, self.batch_size, LONGEST_DELAY)
        for pending in due:
            yield from self._trying_again(pending)
        received = yield from self._receiving()
        yield from prune_beside(self._driver.random, received, self._pruning)
        return len(due) + received

    def _pruning(self, limit: int) -> Request[None]:
        return self._inbox.prune(self.name, self.inbox_age, limit)

    def _receiving(self) -> Steps[int]:
        clock = self._driver.clock
        deliveries = yield Run(self._broker.receive, self.topic, self.name, self.batch_size)
        told, told_at = 0, clock.monotonic()
        for number, delivery in enumerate(deliveries, start=1):
            yield from self._settling(delivery.message)
            if number == len(deliveries) or clock.monotonic() > told_at + ACK_EVERY:
                yield Run(self._broker.ack, self.topic, self.name, deliveries[told:number])
                told, told_at = number, clock.monotonic()
        return len(deliveries)

    def _settling(self, message: Message) -> Steps[None]:
        """Handle a message for the first time, or find that it was."""
        attempt = _Attempt()

        def handling() -> Steps[Arrival]:
            arrival = yield from self._inbox.open(self.name, message)
            if arrival is Arrival.NEW:
                yield from self._calling(message, attempt)
            elif arrival is Arrival.BEHIND:
                yield from self._inbox.defer(self.name, message, 0, 0.0, "")
            return arrival

        try:
            arrival = yield from Atomic(handling)
        except Exception as error:
            if _not_the_handlers(attempt, error):
                raise
            yield from self._failing_first(message, attempt.error or error)
        else:
            self._tell(arrival, message)

    def _failing_first(self, message: Message, error: Exception) -> Steps[None]:
        text = described(error)
        delay = backoff(1, self.retry_delay, self._driver.random)

        def keeping() -> Steps[bool]:
            arrival = yield from self._inbox.open(self.name, message)
            if arrival is Arrival.DUPLICATE:  # another process dealt with it in the meantime
                return False
            if self.max_attempts > 1:
                yield from self._inbox.defer(self.name, message, 1, delay, text)
            else:
                yield from self._inbox.bury(self.name, message, 1, text)
            return True

        if (yield from Atomic(keeping)):
            self._tell_failed(Pending(0, message, 0, 0.0), error, text)

    def _trying_again(self, pending: Pending) -> Steps[None]:
        attempt = _Attempt()

        def handling() -> Steps[bool]:
            taken = yield from self._inbox.take(pending.number)
            if taken:
                yield from self._calling(pending.message, attempt)
            return taken

        try:
            taken = yield from Atomic(handling)
        except Exception as error:
            if _not_the_handlers(attempt, error):
                raise
            yield from self._failing_again(pending, attempt.error or error)
        else:
            if taken:
                self._tell(Arrival.NEW, pending.message)

    def _failing_again(self, pending: Pending, error: Exception) -> Steps[None]:
        attempts, text = pending.attempts + 1, described(error)
        if attempts < self.max_attempts:
            delay = backoff(attempts, self.retry_delay, self._driver.random)
            yield from self._inbox.put_off(pending.number, attempts, delay, text)
        else:

            def burying() -> Steps[None]:
                if (yield from self._inbox.take(pending.number)):
                    yield from self._inbox.bury(self.name, pending.message, attempts, text)

            yield from Atomic(burying)
        self._tell_failed(pending, error, text)

    def _calling(self, message: Message, attempt: _Attempt) -> Steps[None]:
        attempt.error = None  # a transaction may be started again
        try:
            result: object = yield Run(self._handler, message, join=True)
        except Exception as error:
            attempt.error = error
            raise
        if isinstance(result, Awaitable):
            # It did nothing yet, and nobody would await it: its effect would be lost for good.
            attempt.misused = True
            if inspect.iscoroutine(result):
                result.close()
            raise _wrong_handler(self._handler, is_async=False)

    def _tell(self, arrival: Arrival, message: Message) -> None:
        if signals.subscribers and arrival is not Arrival.BEHIND:
            kind = MessageHandled if arrival is Arrival.NEW else DuplicateSkipped
            signals.emit(kind(consumer=self.name, message_id=message.id))

    def _tell_failed(self, pending: Pending, error: Exception, text: str) -> None:
        attempts = pending.attempts + 1
        if signals.subscribers:
            signals.emit(
                MessageFailed(consumer=self.name, message_id=pending.message.id, attempts=attempts, error=error)
            )
        if attempts >= self.max_attempts:
            tell_buried(self.name, pending, attempts, text)

    def _tell_failure(self, error: Exception) -> None:
        if signals.subscribers:
            signals.emit(ConsumerFailed(consumer=self.name, error=error))

    def __repr__(self) -> str:
        return f"<Consumer {self.name!r} of {self.topic!r} on {self._driver.place}>"


@overload
def consumer(
    client: AsyncClient,
    broker: Broker | OwnBroker[Async],
    *,
    topic: str,
    name: str,
    batch_size: int = ...,
    poll_interval: float = ...,
    max_attempts: int = ...,
    retry_delay: float = ...,
    inbox_age: float = ...,
) -> Callable[[AsyncHandler], Consumer[Async]]: ...
@overload
def consumer(
    client: SyncClient,
    broker: Broker | OwnBroker[Sync],
    *,
    topic: str,
    name: str,
    batch_size: int = ...,
    poll_interval: float = ...,
    max_attempts: int = ...,
    retry_delay: float = ...,
    inbox_age: float = ...,
) -> Callable[[SyncHandler], Consumer[Sync]]: ...
def consumer(
    client: Any, broker: Broker | OwnBroker[Any], *, topic: str, name: str, **options: Any
) -> Callable[[Any], Any]:
    """Make a handler a `Consumer`, with the same options.

        @consumer(db, broker, topic="payments", name="balances")
        async def keep_balances(tx, message): ...

        await keep_balances.run()

    The name is then the consumer, and no longer the function.
    """

    def make(handler: Any) -> Any:
        return Consumer(client, broker, name, handler, topic=topic, **options)

    return make


def _not_the_handlers(attempt: _Attempt, error: Exception) -> bool:
    # Without an error of the handler, a BackendError is the store's own: waiting mends it.
    return attempt.misused or (attempt.error is None and isinstance(error, BackendError))


def _check_handler(handler: Any, *, is_async: bool) -> None:
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
