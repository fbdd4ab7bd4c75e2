"""What carriers provide: each protocol is one table or two, its methods return requests.

`memory.py` is the readable model; `sqlite.py` and `postgres.py` say the same in SQL. A carrier module
has them as `event_log`, `outbox`, `queue` and `inbox`; memory has no `inbox`, because its transactions
cannot hold a user's function.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from holdfast.backends import Backend, carrier
from holdfast.errors import ConfigurationError
from holdfast.events.event import Event, Position
from holdfast.events.message import Backlog, DeadLetter, Delivery, Message
from holdfast.operations import Request

__all__ = ["Arrival", "EventLog", "Inbox", "OutboxStore", "Pending", "Placed", "Queue", "store_of"]


class Placed(NamedTuple):
    """Where a stream stands, and where given events already are."""

    version: int
    events: Mapping[str, tuple[str, int]]
    """Event id -> stream and version, for those that are stored."""


class EventLog(Protocol):
    """The events, in streams and in one global order."""

    def append(self, stream: str, events: Sequence[Event], expected: int | None) -> Request[int | None]:
        """Append all or none; the new version, or None when the stream or the ids do not allow it."""
        ...

    def placed(self, stream: str, ids: Sequence[str]) -> Request[Placed]:
        """Say why an append was not possible."""
        ...

    def read(self, stream: str, after_version: int, limit: int) -> Request[list[Event]]:
        """Return the events of a stream in order."""
        ...

    def read_all(self, after: Position, limit: int) -> Request[list[Event]]:
        """Return events of all streams; none that comes before one of them can appear later."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that waits: for the relay in the outbox, or for another try in a consumer's inbox."""

    number: int
    message: Message
    attempts: int
    age: float


class OutboxStore(Protocol):
    """The messages to publish, the relay's lease, and the dead letters of all."""

    def add(self, message: Message) -> Request[None]:
        """Keep a message; one of the same topic and id that is still waiting stays the only one."""
        ...

    def claim(self, owner: str, ttl: float) -> Request[bool]:
        """Take or prolong the relay's lease."""
        ...

    def release(self, owner: str) -> Request[None]:
        """End the lease of `owner`."""
        ...

    def batch(self, limit: int, longest: float) -> Request[list[Pending]]:
        """Return the oldest that may go now: none whose key has an earlier one waiting for another try."""
        ...

    def heads(self, after: int, limit: int, longest: float) -> Request[list[Pending]]:
        """Return messages with greater numbers than `after` that may go now and are the first of their key."""
        ...

    def remove(self, numbers: Sequence[int]) -> Request[None]:
        """Forget messages that were published."""
        ...

    def refuse(self, number: int, delay: float) -> Request[None]:
        """Count a failed attempt and wait `delay` seconds before the next."""
        ...

    def bury(self, pending: Pending, error: str) -> Request[None]:
        """Move a message to the dead letters."""
        ...

    def backlog(self) -> Request[Backlog]:
        """Count what waits."""
        ...

    def dead(self, source: str | None, limit: int) -> Request[list[DeadLetter]]:
        """Return dead letters, oldest first."""
        ...

    def discard(self, number: int) -> Request[bool]:
        """Forget a dead letter."""
        ...

    def revive(self, number: int) -> Request[bool]:
        """Put a dead letter back where it came from."""
        ...


class Queue(Protocol):
    """A log of messages per topic, and how far each subscription has read."""

    def publish(self, messages: Sequence[Message]) -> Request[None]:
        """Append messages; one whose id the topic still holds is left out."""
        ...

    def peek(self, topic: str, name: str, limit: int) -> Request[list[Delivery]]:
        """Return the next messages after the subscription's cursor."""
        ...

    def subscribe(self, topic: str, name: str) -> Request[None]:
        """Make the subscription known: from now on nothing it has not read is removed."""
        ...

    def claim(self, topic: str, name: str, owner: str, ttl: float) -> Request[Position | None]:
        """Take or prolong the subscription's lease; its cursor, or None while another holds it."""
        ...

    def ack(self, topic: str, name: str, until: Position) -> Request[None]:
        """Move the cursor forward; it never goes back."""
        ...

    def release(self, topic: str, name: str, owner: str) -> Request[None]:
        """End the lease of `owner`."""
        ...

    def unsubscribe(self, topic: str, name: str) -> Request[bool]:
        """Forget the subscription; False if it is not known."""
        ...

    def prune(self, topic: str, age: float, max_age: float | None, limit: int) -> Request[int]:
        """Look at the `limit` oldest messages, and forget what is too old; return how many of those were unread.

        Too old is more than `age` seconds if every subscription has read it, and more than `max_age` in any case.
        """
        ...


class Arrival(enum.Enum):
    """What a message is to an inbox."""

    NEW = "new"
    DUPLICATE = "duplicate"
    BEHIND = "behind"
    """New, but an earlier one of its key waits for another try, so it has to wait, too."""


class Inbox(Protocol):
    """Which messages a consumer has seen, and those that wait for another try."""

    def open(self, consumer: str, message: Message) -> Request[Arrival]:
        """Note that the consumer has this message."""
        ...

    def defer(self, consumer: str, message: Message, attempts: int, delay: float, error: str) -> Request[None]:
        """Keep a message for another try after `delay` seconds."""
        ...

    def waiting(self, consumer: str, topic: str, limit: int) -> Request[int]:
        """Count the messages that wait, up to `limit`."""
        ...

    def due(self, consumer: str, topic: str, limit: int, longest: float) -> Request[list[Pending]]:
        """Return what may be tried now, in order: of each key all or none, as its first message is due or not."""
        ...

    def take(self, number: int) -> Request[bool]:
        """Take a waiting message out; False if another took it."""
        ...

    def put_off(self, number: int, attempts: int, delay: float, error: str) -> Request[bool]:
        """Let a waiting message wait again after its try number `attempts`; False if another already did."""
        ...

    def bury(self, consumer: str, message: Message, attempts: int, error: str) -> Request[None]:
        """Keep a message as a dead letter."""
        ...

    def prune(self, consumer: str, topic: str, age: float, limit: int) -> Request[None]:
        """Forget that the consumer has seen messages of `topic` more than `age` seconds ago."""
        ...


def store_of(backend: Backend[Any], part: str, pattern: str) -> Any:
    """Return the `part` of the carrier for `backend`, or say that `pattern` does not run there."""
    found = getattr(carrier(str(__package__), backend), part, None)
    if found is None:
        message = (
            f"{pattern} does not run on {backend!r}, whose transactions cannot hold a function: "
            "give sqlite:///FILE or postgresql://..."
        )
        raise ConfigurationError(message)
    return found
