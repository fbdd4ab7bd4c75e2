"""`SqlBroker`: a durable log of messages in the database that is there already.

No server to run, and messages keep their order. For a fleet with thousands of messages per second, or
for consumers in other languages, take a real broker; the outbox and the consumers stay the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypedDict, Unpack, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.errors import ConfigurationError
from holdfast.events._pruning import prune_beside
from holdfast.events._ranges import seconds, whole
from holdfast.events.broker import OwnBroker
from holdfast.events.message import Delivery, Message, check_labels
from holdfast.events.store import Queue, store_of
from holdfast.operations import Async, C, Steps, Sync, operation

__all__ = ["MemoryBroker", "SqlBroker", "UnreadRemoved"]

DEFAULT_RETENTION = 86_400.0
DEFAULT_LEASE = 30.0


class Options(TypedDict, total=False):
    """What `SqlBroker` can be told by keyword; the meanings are there."""

    retention: float
    max_age: float | None
    lease: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadRemoved(signals.Signal):
    """Messages went because they were older than `max_age`, although a subscription had not read them."""

    topic: str
    messages: int


class SqlBroker(OwnBroker[C]):
    """Topics and subscriptions in SQLite or PostgreSQL, in the service's database or another.

    Guarantees: messages are handed out in the order in which they were published; a message that was
    published twice under one id appears once, as long as the topic holds it; none that a subscription
    has not read is removed, unless `max_age` says so. One process at a time receives for a subscription;
    another takes over when it has been silent for `lease` seconds. A subscription begins with its first
    `receive`, at the oldest message that the topic still holds.

    Args:
        client: a client or backend of SQLite or PostgreSQL.
        retention: seconds for which messages are kept at least, > 0, for late subscriptions and to
            recognise duplicates; those that every subscription has read are removed afterwards.
        max_age: seconds after which messages are removed that some subscription has not read, either,
            >= `retention`; `UnreadRemoved` tells how many. None keeps them until they are read, or the
            subscription is ended with `unsubscribe`.
        lease: seconds after which a silent receiver's subscription goes to another, > 0.
    """

    _dialects: ClassVar[tuple[str, ...]] = ("sqlite", "postgres")

    @overload
    def __init__(self: SqlBroker[Async], client: AsyncClient, **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: SqlBroker[Sync], client: SyncClient, **options: Unpack[Options]) -> None: ...
    def __init__(
        self,
        client: Any,
        *,
        retention: float = DEFAULT_RETENTION,
        max_age: float | None = None,
        lease: float = DEFAULT_LEASE,
    ) -> None:
        self.retention: float = seconds("retention", retention)
        self.max_age: float | None = _max_age(max_age, retention)
        self.lease: float = seconds("lease", lease)
        self._driver = adopt(client)
        if self._driver.dialect not in self._dialects:
            message = f"{type(self).__name__} takes a client of {' or '.join(self._dialects)}, not {self._driver!r}"
            raise ConfigurationError(message)
        self._queue: Queue = store_of(self._driver, "queue", type(self).__name__)
        self._owner = f"{self._driver.random.getrandbits(128):032x}"
        self._subscribed: set[tuple[str, str]] = set()

    @operation
    def publish(self, messages: Sequence[Message]) -> Steps[None]:
        """Append `messages` in this order, all or none.

        Raises:
            ConfigurationError: one of them is not legal; nothing was sent.
        """
        for message in messages:
            check_labels(message)
        if messages:
            yield from self._queue.publish(messages)
        for topic, added in Counter(message.topic for message in messages).items():
            yield from prune_beside(self._driver.random, added, partial(self._pruning, topic))

    @operation
    def receive(self, topic: str, name: str, limit: int) -> Steps[Sequence[Delivery]]:
        """Return the next messages of the subscription; none while another process receives for it."""
        if (topic, name) not in self._subscribed:
            checks.key("topic", topic)
            checks.key("name", name)
            yield from self._queue.subscribe(topic, name)
            self._subscribed.add((topic, name))
        # Looking is a read: idle consumers write nothing.
        deliveries = yield from self._queue.peek(topic, name, whole("limit", limit, 1))
        if not deliveries:
            return []
        cursor = yield from self._queue.claim(topic, name, self._owner, self.lease)
        if cursor is None:
            return []
        # Whoever had the lease until now may have gone further since the look.
        return [delivery for delivery in deliveries if delivery.receipt > cursor]

    @operation
    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> Steps[None]:
        """Move the subscription behind the last of `deliveries`, and prolong the lease."""
        if deliveries:
            yield from self._queue.ack(topic, name, deliveries[-1].receipt)
            yield from self._queue.claim(topic, name, self._owner, self.lease)

    @operation
    def leave(self, topic: str, name: str) -> Steps[None]:
        """Let another process receive for the subscription at once."""
        yield from self._queue.release(topic, name, self._owner)

    @operation
    def unsubscribe(self, topic: str, name: str) -> Steps[bool]:
        """End a subscription for good, so that it keeps no messages any more; False if there is none.

        Whoever receives for it afterwards begins anew, with the oldest message that the topic holds.
        """
        self._subscribed.discard((topic, name))
        return (yield from self._queue.unsubscribe(topic, name))

    def _pruning(self, topic: str, limit: int) -> Steps[None]:
        unread = yield from self._queue.prune(topic, self.retention, self.max_age, limit)
        if unread and signals.subscribers:
            signals.emit(UnreadRemoved(topic=topic, messages=unread))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._driver.place}>"


class MemoryBroker(SqlBroker[C]):
    """The same in a memory backend: for tests."""

    _dialects = ("memory",)


def _max_age(max_age: float | None, retention: float) -> float | None:
    if max_age is None or seconds("max_age", max_age) >= retention:
        return max_age
    message = f"max_age={max_age!r} is not legal: give at least retention={retention!r}, or None"
    raise ConfigurationError(message, parameter="max_age")
