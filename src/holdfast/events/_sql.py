"""The requests of events for SQL backends: which statement, which parameters, how to read the rows.

SQLite and PostgreSQL differ in their statements (`sqlite.sql`, `postgres.sql`), which have the same
names, parameters and columns. Lists travel as one JSON text, so a batch is one statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.backends.sql import Query, Row, Statement
from holdfast.events import _json
from holdfast.events.event import Event, Position
from holdfast.events.message import Backlog, DeadLetter, Delivery, Message, read_message
from holdfast.events.store import Arrival, Pending, Placed
from holdfast.operations import Atomic, Request, Steps

__all__ = ["SqlEventLog", "SqlInbox", "SqlOutbox", "SqlQueue"]

Statements = Mapping[str, Statement]


class SqlEventLog:
    """The events, in SQL."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def append(self, stream: str, events: Sequence[Event], expected: int | None) -> Query[int | None]:
        """Append all or none; the new version, or None."""
        batch = _json.pack([_columns_of(number, event) for number, event in enumerate(events, start=1)])
        parameters = {"stream": stream, "events": batch, "expected": expected}
        return Query(self._sql["append"], parameters, _newest_version)

    def placed(self, stream: str, ids: Sequence[str]) -> Query[Placed]:
        """Say where the stream and these events are."""
        parameters = {"stream": stream, "ids": _json.pack(list(ids))}
        return Query(self._sql["placed"], parameters, _placed)

    def read(self, stream: str, after_version: int, limit: int) -> Query[list[Event]]:
        """Return the events of a stream in order."""
        parameters = {"stream": stream, "after_version": after_version, "limit": limit}
        return Query(self._sql["read"], parameters, _events)

    def read_all(self, after: Position, limit: int) -> Query[list[Event]]:
        """Return events of all streams in order."""
        return Query(self._sql["read_all"], {**_cursor(after), "limit": limit}, _events)


class SqlOutbox:
    """Outbox, relay lease and dead letters, in SQL."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def add(self, message: Message) -> Query[None]:
        """Keep a message."""
        return Query(self._sql["outbox_add"], _columns(message), _nothing)

    def claim(self, owner: str, ttl: float) -> Query[bool]:
        """Take or prolong the relay's lease."""
        return Query(self._sql["relay_claim"], {"owner": owner, "ttl": ttl}, bool)

    def release(self, owner: str) -> Query[None]:
        """End the lease of `owner`."""
        return Query(self._sql["relay_release"], {"owner": owner}, _nothing)

    def batch(self, limit: int, longest: float) -> Query[list[Pending]]:
        """Return the oldest that may go now."""
        return Query(self._sql["outbox_batch"], {"limit": limit, "longest": longest}, _pending)

    def heads(self, after: int, limit: int, longest: float) -> Query[list[Pending]]:
        """Return the first of their key among later ones."""
        parameters = {"after": after, "limit": limit, "longest": longest}
        return Query(self._sql["outbox_heads"], parameters, _pending)

    def remove(self, numbers: Sequence[int]) -> Query[None]:
        """Forget published messages."""
        parameters = {"numbers": _json.pack(list(numbers))}
        return Query(self._sql["outbox_remove"], parameters, _nothing)

    def refuse(self, number: int, delay: float) -> Query[None]:
        """Count a failed attempt."""
        return Query(self._sql["outbox_refuse"], {"number": number, "delay": delay}, _nothing)

    def bury(self, pending: Pending, error: str) -> Request[None]:
        """Move a message to the dead letters."""

        def moving() -> Steps[None]:
            removed = yield from Query(self._sql["outbox_take"], {"number": pending.number}, bool)
            if removed:
                yield from _bury(self._sql, "", pending.message, pending.attempts + 1, error)

        return Atomic(moving)

    def backlog(self) -> Query[Backlog]:
        """Count what waits."""
        return Query(self._sql["outbox_backlog"], {}, lambda rows: Backlog(*rows[0]))

    def dead(self, source: str | None, limit: int) -> Query[list[DeadLetter]]:
        """Return dead letters, oldest first."""
        return Query(self._sql["dead_read"], {"source": source, "limit": limit}, _dead_letters)

    def discard(self, number: int) -> Query[bool]:
        """Forget a dead letter."""
        return Query(self._sql["dead_take"], {"number": number}, bool)

    def revive(self, number: int) -> Request[bool]:
        """Put a dead letter back where it came from."""

        def moving() -> Steps[bool]:
            letters = yield from Query(self._sql["dead_take"], {"number": number}, _dead_letters)
            for letter in letters:
                if letter.source:
                    yield from _defer(self._sql, letter.source, letter.message, 0, delay=0.0, error=letter.error)
                else:
                    yield from Query(self._sql["outbox_add"], _columns(letter.message), _nothing)
            return bool(letters)

        return Atomic(moving)


class SqlQueue:
    """Topics and subscriptions, in SQL."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def publish(self, messages: Sequence[Message]) -> Query[None]:
        """Append messages, except those that the topic holds already."""
        batch = [{"n": number, **_columns(message)} for number, message in enumerate(messages)]
        return Query(self._sql["queue_publish"], {"messages": _json.pack(batch)}, _nothing)

    def peek(self, topic: str, name: str, limit: int) -> Query[list[Delivery]]:
        """Return the next messages after the subscription's cursor."""
        parameters = {"topic": topic, "name": name, "limit": limit}
        return Query(self._sql["queue_peek"], parameters, _deliveries)

    def subscribe(self, topic: str, name: str) -> Query[None]:
        """Make the subscription known."""
        return Query(self._sql["queue_subscribe"], {"topic": topic, "name": name}, _nothing)

    def claim(self, topic: str, name: str, owner: str, ttl: float) -> Query[Position | None]:
        """Take or prolong the subscription's lease; its cursor."""
        parameters = {"topic": topic, "name": name, "owner": owner, "ttl": ttl}
        return Query(self._sql["queue_claim"], parameters, _position)

    def ack(self, topic: str, name: str, until: Position) -> Query[None]:
        """Move the cursor forward."""
        return Query(self._sql["queue_ack"], {"topic": topic, "name": name, **_cursor(until)}, _nothing)

    def release(self, topic: str, name: str, owner: str) -> Query[None]:
        """End the lease of `owner`."""
        return Query(self._sql["queue_release"], {"topic": topic, "name": name, "owner": owner}, _nothing)

    def unsubscribe(self, topic: str, name: str) -> Query[bool]:
        """Forget the subscription."""
        return Query(self._sql["queue_unsubscribe"], {"topic": topic, "name": name}, bool)

    def prune(self, topic: str, age: float, max_age: float | None, limit: int) -> Query[int]:
        """Forget old messages."""
        parameters = {"topic": topic, "age": age, "max_age": max_age, "limit": limit}
        return Query(self._sql["queue_prune"], parameters, lambda rows: sum(int(row[0]) for row in rows))


class SqlInbox:
    """Inbox and waiting messages, in SQL."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def open(self, consumer: str, message: Message) -> Query[Arrival]:
        """Note that the consumer has this message."""
        parameters = {
            "consumer": consumer,
            "message_id": message.id,
            "topic": message.topic,
            "key": message.key,
        }
        return Query(self._sql["inbox_open"], parameters, _arrival)

    def defer(self, consumer: str, message: Message, attempts: int, delay: float, error: str) -> Query[None]:
        """Keep a message for another try."""
        return _defer(self._sql, consumer, message, attempts, delay=delay, error=error)

    def waiting(self, consumer: str, topic: str, limit: int) -> Query[int]:
        """Count the messages that wait, up to `limit`."""
        parameters = {"consumer": consumer, "topic": topic, "limit": limit}
        return Query(self._sql["inbox_waiting"], parameters, lambda rows: int(rows[0][0]))

    def due(self, consumer: str, topic: str, limit: int, longest: float) -> Query[list[Pending]]:
        """Return what may be tried now."""
        parameters = {"consumer": consumer, "topic": topic, "limit": limit, "longest": longest}
        return Query(self._sql["inbox_due"], parameters, _pending)

    def take(self, number: int) -> Query[bool]:
        """Take a waiting message out."""
        return Query(self._sql["inbox_take"], {"number": number}, bool)

    def put_off(self, number: int, attempts: int, delay: float, error: str) -> Query[bool]:
        """Let a waiting message wait again."""
        parameters = {"number": number, "attempts": attempts, "delay": delay, "error": error}
        return Query(self._sql["inbox_put_off"], parameters, bool)

    def bury(self, consumer: str, message: Message, attempts: int, error: str) -> Query[None]:
        """Keep a message as a dead letter."""
        return _bury(self._sql, consumer, message, attempts, error)

    def prune(self, consumer: str, topic: str, age: float, limit: int) -> Query[None]:
        """Forget what the consumer has seen long ago."""
        parameters = {"consumer": consumer, "topic": topic, "age": age, "limit": limit}
        return Query(self._sql["inbox_prune"], parameters, _nothing)


def _columns_of(number: int, event: Event) -> dict[str, Any]:
    # JSON within JSON: PostgreSQL reads the outer one into text, which cannot hold all that the inner may.
    return {
        "n": number,
        "id": event.id,
        "type": event.type,
        "data": _json.encode("events", dict(event.data)),
        "metadata": _json.encode("events", dict(event.metadata)),
    }


def _bury(sql: Statements, source: str, message: Message, attempts: int, error: str) -> Query[None]:
    parameters = {**_columns(message), "source": source, "attempts": attempts, "error": error}
    return Query(sql["dead_add"], parameters, _nothing)


def _defer(sql: Statements, consumer: str, message: Message, attempts: int, *, delay: float, error: str) -> Query[None]:
    parameters = {
        **_columns(message),
        "consumer": consumer,
        "attempts": attempts,
        "delay": delay,
        "error": error,
    }
    return Query(sql["inbox_defer"], parameters, _nothing)


def _columns(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.id,
        "topic": message.topic,
        "key": message.key,
        "payload": _json.encode("payload", message.payload),
        "headers": _json.encode("headers", dict(message.headers)),
    }


def _message(row: Row) -> Message:
    return read_message(*row)


def _cursor(position: Position) -> dict[str, Any]:
    return {"transaction": str(position.transaction), "number": position.number}


def _nothing(rows: Sequence[Row]) -> None:
    del rows


def _newest_version(rows: Sequence[Row]) -> int | None:
    return max((int(row[0]) for row in rows), default=None)


def _placed(rows: Sequence[Row]) -> Placed:
    # The first row is the stream itself, with an empty id.
    versions = {event_id: (stream, version) for event_id, stream, version in rows}
    return Placed(versions.pop("")[1], versions)


def _events(rows: Sequence[Row]) -> list[Event]:
    return [
        Event(
            event_type,
            _json.decode(data),
            metadata=_json.decode(metadata),
            id=event_id,
            stream=stream,
            version=version,
            position=Position(int(transaction), number),
            recorded_at=recorded_at,
        )
        for stream, version, event_id, event_type, data, metadata, recorded_at, transaction, number in rows
    ]


def _pending(rows: Sequence[Row]) -> list[Pending]:
    return [Pending(number, _message(row), attempts, age) for number, attempts, age, *row in rows]


def _deliveries(rows: Sequence[Row]) -> list[Delivery]:
    return [Delivery(_message(row), Position(int(transaction), number)) for transaction, number, *row in rows]


def _position(rows: Sequence[Row]) -> Position | None:
    return Position(int(rows[0][0]), rows[0][1]) if rows else None


def _arrival(rows: Sequence[Row]) -> Arrival:
    if not rows:
        return Arrival.DUPLICATE
    return Arrival.BEHIND if rows[0][0] else Arrival.NEW


def _dead_letters(rows: Sequence[Row]) -> list[DeadLetter]:
    return [
        DeadLetter(number, source, _message(row), attempts, error, died_at)
        for number, source, attempts, error, died_at, *row in rows
    ]
