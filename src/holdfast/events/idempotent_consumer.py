"""`Consumer`: the effect of each message exactly once, where effect and inbox share a database.

Per message one transaction: note the message id in the inbox, run the handler with the transaction,
commit; then tell the broker. Whatever dies in between, either both are there or none, and the broker
hands the message out again:

    begin ── inbox(id) ── handler(tx, message) ── commit ── ack
                                                        ▲ killed here: handed out again, found in the
                                                          inbox, acknowledged without running

A handler that raises is rolled back. Its message waits in the consumer's own database for another try,
and later messages of its key wait behind it, while all others go on. After `max_attempts` it becomes a
dead letter. What waits is older than what the broker still has, so as soon as it may be tried it goes
first: a key that was held up for a moment catches up at full speed.

What it does not make exactly once: effects elsewhere. An HTTP call in a handler happens again when the
transaction is rolled back; give the receiver the message id as its idempotency key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, Unpack, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.drivers import AsyncDriver
from holdfast.errors import HoldfastError
from holdfast.events._endless import LONGEST_DELAY, endless, leaving, never
from holdfast.events._pruning import prune_beside
from holdfast.events._ranges import seconds, whole
from holdfast.events.attempts import Attempts, check_handler
from holdfast.events.broker import Broker, OwnBroker, check_colour
from holdfast.events.message import Message
from holdfast.events.store import Inbox, store_of
from holdfast.operations import Async, C, Pattern, Request, Run, Steps, Sync, operation

__all__ = ["Consumer", "ConsumerFailed", "consumer"]

DEFAULT_BATCH_SIZE = 100
DEFAULT_POLL_INTERVAL = 0.05
DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_RETRY_DELAY = 1.0
# A second failure of a busy key must not hold up all others at once, and a database holds that much easily.
DEFAULT_MAX_DEFERRED = 10_000
DEFAULT_INBOX_AGE = 7 * 86_400.0
# Seconds of handling after which the broker hears of it, also in the middle of a batch.
ACK_EVERY = 1.0

SyncHandler = Callable[[Any, Message], object]
AsyncHandler = Callable[[Any, Message], Awaitable[object]]


class Options(TypedDict, total=False):
    """What `Consumer` and `consumer` can be told by keyword; the meanings are at `Consumer`."""

    batch_size: int
    poll_interval: float
    max_attempts: int
    retry_delay: float
    max_deferred: int
    inbox_age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerFailed(signals.Signal):
    """A turn of the consumer failed and is tried again: the store or the broker is away."""

    consumer: str
    error: Exception


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
        max_deferred: how many messages may wait for another try, or behind one that does, before no more
            are taken from the broker, >= 1. The batch that reaches it is still taken as a whole.
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
        **options: Unpack[Options],
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
        **options: Unpack[Options],
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
        max_deferred: int = DEFAULT_MAX_DEFERRED,
        inbox_age: float = DEFAULT_INBOX_AGE,
    ) -> None:
        self.name: str = checks.key("name", name)
        self.topic: str = checks.key("topic", topic)
        self.batch_size: int = whole("batch_size", batch_size, 1)
        self.poll_interval: float = checks.timeout("poll_interval", poll_interval)
        self.max_attempts: int = checks.at_least("max_attempts", max_attempts, 1)
        self.retry_delay: float = checks.positive("retry_delay", retry_delay)
        self.max_deferred: int = whole("max_deferred", max_deferred, 1)
        self.inbox_age: float = seconds("inbox_age", inbox_age)
        self._driver = adopt(client)
        self._inbox: Inbox = store_of(self._driver, "inbox", "Consumer")
        check_colour(self._driver, broker, "receive", "ack")
        self._broker: Any = broker
        check_handler(handler, is_async=isinstance(self._driver, AsyncDriver))
        self._attempts = Attempts(self._driver, self._inbox, name, topic, handler, max_attempts, retry_delay)

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
        store or broker that is away is waited for. At the end another process can take over at once, if
        the broker has a method `leave(topic, name)`.
        """
        work = endless(
            self._driver,
            self._turn,
            poll_interval=self.poll_interval,
            stop=stop,
            failed=self._tell_failure,
        )
        yield from leaving(work, self._leaving)

    def _turn(self) -> Steps[int]:
        """Try what waits; take new messages only when that is done, and while there is room to keep them."""
        waiting = yield from self._inbox.waiting(self.name, self.topic, self.max_deferred)
        tried = (yield from self._retrying()) if waiting else 0
        if tried == self.batch_size or waiting == self.max_deferred:
            return tried
        received = yield from self._receiving()
        yield from prune_beside(self._driver.random, received, self._pruning)
        return tried + received

    def _retrying(self) -> Steps[int]:
        """Try what is due, in order; what fails holds up the later ones of its key."""
        due = yield from self._inbox.due(self.name, self.topic, self.batch_size, LONGEST_DELAY)
        tried = 0
        held_up: set[str] = set()
        for pending in due:
            key = pending.message.key
            if key in held_up:
                continue
            tried += 1
            if not (yield from self._attempts.again(pending)) and key:
                held_up.add(key)
        return tried

    def _receiving(self) -> Steps[int]:
        clock = self._driver.clock
        deliveries = yield Run(self._broker.receive, self.topic, self.name, self.batch_size)
        told, told_at = 0, clock.monotonic()
        for number, delivery in enumerate(deliveries, start=1):
            yield from self._attempts.fresh(delivery.message)
            if number == len(deliveries) or clock.monotonic() > told_at + ACK_EVERY:
                yield Run(self._broker.ack, self.topic, self.name, deliveries[told:number])
                told, told_at = number, clock.monotonic()
        return len(deliveries)

    def _leaving(self) -> Steps[None]:
        if hasattr(self._broker, "leave"):
            with contextlib.suppress(HoldfastError, OSError):  # the lease ends by itself
                yield Run(self._broker.leave, self.topic, self.name)

    def _pruning(self, limit: int) -> Request[None]:
        return self._inbox.prune(self.name, self.topic, self.inbox_age, limit)

    def _tell_failure(self, error: Exception) -> None:
        if signals.subscribers:
            signals.emit(ConsumerFailed(consumer=self.name, error=error))

    def __repr__(self) -> str:
        return f"<Consumer {self.name!r} of {self.topic!r} on {self._driver.place}>"


@overload
def consumer(
    client: AsyncClient, broker: Broker | OwnBroker[Async], *, topic: str, name: str, **options: Unpack[Options]
) -> Callable[[AsyncHandler], Consumer[Async]]: ...
@overload
def consumer(
    client: SyncClient, broker: Broker | OwnBroker[Sync], *, topic: str, name: str, **options: Unpack[Options]
) -> Callable[[SyncHandler], Consumer[Sync]]: ...
def consumer(
    client: Any, broker: Broker | OwnBroker[Any], *, topic: str, name: str, **options: Unpack[Options]
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
