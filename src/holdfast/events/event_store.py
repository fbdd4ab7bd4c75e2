"""`EventStore`: streams of events with optimistic concurrency, and one gap-safe order of all of them.

What it guarantees: an append is all or nothing; of two writers that expect the same version one is
refused; a reader that continues from the position of the last event it saw misses none, also while
writers hold their transactions open. What it does not: events are not visible to `read_all` before
their transaction, and on PostgreSQL every older writing transaction of the server, is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, overload
from uuid import UUID

from holdfast import checks
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.errors import ConcurrencyConflict, ConfigurationError
from holdfast.events._ranges import whole
from holdfast.events.event import ANY, AnyVersion, Event, Position, give_id
from holdfast.events.identity import uuid7
from holdfast.events.store import EventLog, Placed, store_of
from holdfast.operations import Async, C, Pattern, Request, Sleep, Steps, Sync, operation

__all__ = ["EventStore"]

DEFAULT_LIMIT = 1000
MOST_EVENTS = 10_000
# Tries of an append with ANY that another writer overtook; each try loses only to somebody's success.
ANY_TRIES = 20
LONGEST_PAUSE = 0.02


class EventStore(Pattern[C], Generic[C]):
    """An append-only store of events.

        store = EventStore(client)
        await store.append("account-7", [Event("deposited", {"amount": 5})], expected_version=0)

    Inside a transaction pass the transaction: `EventStore(tx).append(...)` commits or vanishes with it.
    Constructing one costs a few microseconds and no round trip.

    Args:
        client: a client or backend of SQLite, PostgreSQL or memory; its colour decides the operations'.
        request_timeout: seconds that one request may take, > 0; None keeps the backend's.

    Raises:
        ConfigurationError: the client cannot carry an event store.
    """

    @overload
    def __init__(self: EventStore[Async], client: AsyncClient, *, request_timeout: float | None = ...) -> None: ...
    @overload
    def __init__(self: EventStore[Sync], client: SyncClient, *, request_timeout: float | None = ...) -> None: ...
    def __init__(self, client: Any, *, request_timeout: float | None = None) -> None:
        self._driver = adopt(client, timeout=checks.optional_timeout("request_timeout", request_timeout))
        self._log: EventLog = store_of(self._driver, "event_log", "EventStore")

    @operation
    def append(self, stream: str, events: Sequence[Event], *, expected_version: int | AnyVersion) -> Steps[int]:
        """Append `events` to `stream` and return its new version.

        Repeating an append with the same events (the same ids) is safe and returns the same version:
        do so after `OutcomeUnknown`.

        Args:
            stream: 1 to 255 printable characters.
            events: 1 to 10,000, stored in this order.
            expected_version: the version the decision was based on, >= 0; 0 is a new stream. `ANY`
                appends in any case: nobody then notices a lost update.

        Raises:
            ConcurrencyConflict: the stream is at another version (`stream`, `expected`, `actual`).
            ConfigurationError: an argument is not legal; nothing was sent.
            BackendUnavailable: nothing was stored.
            OutcomeUnknown: all or none was stored.
        """
        return (yield from appending(self._driver, self._log, stream, events, expected_version))

    @operation
    def read(self, stream: str, *, after_version: int = 0, limit: int = DEFAULT_LIMIT) -> Request[list[Event]]:
        """Return the events of `stream` in order; an empty list when there are none.

        Args:
            stream: 1 to 255 printable characters.
            after_version: only events with a greater version, >= 0.
            limit: most events returned, >= 1. Fewer than that means that the end was reached.
        """
        return self._log.read(
            checks.key("stream", stream),
            whole("after_version", after_version, 0),
            whole("limit", limit, 1),
        )

    @operation
    def read_all(self, *, after: Position = Position.START, limit: int = DEFAULT_LIMIT) -> Request[list[Event]]:
        """Return events of all streams in one order that never changes.

        Continue with `after=events[-1].position`. No event can later appear before one that was
        returned; in a transaction, its own events are not among them yet (on PostgreSQL).

        Args:
            after: the position of the last event seen; default: from the first.
            limit: most events returned, >= 1.
        """
        return self._log.read_all(_position(after), whole("limit", limit, 1))

    def __repr__(self) -> str:
        return f"<EventStore on {self._driver.place}>"


def appending(
    driver: Any, log: EventLog, stream: str, events: Sequence[Event], expected_version: int | AnyVersion
) -> Steps[int]:
    """Carry out the steps of `EventStore.append`."""
    stream = checks.key("stream", stream)
    expected = _expected(expected_version)
    batch = _checked(events, lambda: uuid7(driver.clock.wall(), driver.random))
    for tries_left in reversed(range(ANY_TRIES)):
        version = yield from log.append(stream, batch, expected)
        if version is not None:
            return version
        placed = yield from log.placed(stream, [event.id for event in batch])
        before = _already_there(stream, batch, expected, placed)
        if before is not None:
            return before
        if expected is not None or placed.events or not tries_left:
            raise _conflict(stream, expected_version, placed)
        yield Sleep(driver.random.uniform(0, LONGEST_PAUSE))
    raise AssertionError("the last try returns or raises")


def _position(after: object) -> Position:
    if not isinstance(after, Position):
        message = f"after={checks.shown(after)} is not legal: give an event's position, or Position.parse(text)"
        raise ConfigurationError(message, parameter="after")
    return after.checked()


def _expected(version: int | AnyVersion) -> int | None:
    return None if isinstance(version, AnyVersion) else whole("expected_version", version, 0)


def _checked(events: Any, make_id: Callable[[], str]) -> Sequence[Event]:
    if not isinstance(events, Sequence) or not all(isinstance(event, Event) for event in events):
        message = f"events={checks.shown(events)} is not legal: give a list of Event"
        raise ConfigurationError(message, parameter="events")
    if not 1 <= len(events) <= MOST_EVENTS:
        message = f"events has {len(events)} elements: give 1 to {MOST_EVENTS}"
        raise ConfigurationError(message, parameter="events")
    legal = [_legal(event, make_id) for event in events]
    if len({event.id for event in legal}) < len(legal):
        raise ConfigurationError("events holds the same event id twice", parameter="events")
    return legal


def _legal(event: Event, make_id: Callable[[], str]) -> Event:
    kind, event_id = checks.key("event type", event.type), _canonical(give_id(event, make_id))
    _check_facts("data", event.data)
    _check_facts("metadata", event.metadata)
    return event if type(event.type) is type(event.id) is str else replace(event, type=kind, id=event_id)


def _check_facts(name: str, facts: object) -> None:
    if not isinstance(facts, Mapping):
        message = f"event {name}={checks.shown(facts)} is not legal: give a dict"
        raise ConfigurationError(message, parameter=name)


def _canonical(event_id: str) -> str:
    try:
        canonical = str(UUID(event_id))
    except (ValueError, AttributeError, TypeError):
        canonical = ""
    if canonical != event_id:
        message = f"event id={checks.shown(event_id)} is not legal: give a UUID in its canonical text, or leave it out"
        raise ConfigurationError(message, parameter="id")
    return canonical


def _already_there(stream: str, events: Sequence[Event], expected: int | None, placed: Placed) -> int | None:
    """Return the version that an earlier append of just these events led to, if there was one."""
    first = placed.events.get(events[0].id)
    if first is None or (expected is not None and first[1] != expected + 1):
        return None
    wanted = [(stream, first[1] + number) for number in range(len(events))]
    if [placed.events.get(event.id) for event in events] != wanted:
        return None
    return wanted[-1][1]


def _conflict(stream: str, expected: int | AnyVersion, placed: Placed) -> ConcurrencyConflict:
    message = f"stream {stream!r} is at version {placed.version}, not at the expected {expected!r}"
    if placed.events:
        message += f"; {len(placed.events)} of the event ids are stored elsewhere already"
    reported = None if expected is ANY else expected
    return ConcurrencyConflict(message, stream=stream, expected=reported, actual=placed.version)
