"""Events in memory: the model that the SQL carriers are compared with. Read this first.

There is no `inbox` here: an idempotent consumer runs the user's handler in a transaction, and a memory
transaction holds nothing but calls.

What is kept is JSON text, as elsewhere: nobody can change it afterwards, neither who gave it nor who got it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from holdfast.backends.memory import Call, State
from holdfast.events import _json
from holdfast.events.event import Event, Position
from holdfast.events.message import Backlog, DeadLetter, Delivery, Message
from holdfast.events.store import Pending, Placed

__all__ = ["event_log", "outbox", "queue"]

P = ParamSpec("P")
T = TypeVar("T")


class _Waiting(NamedTuple):
    """A message in the outbox."""

    message: Message
    added_at: float
    attempts: int = 0
    retry_at: float | None = None


class _Subscription(NamedTuple):
    """How far a subscriber has read, and who may read on until when."""

    number: int
    owner: str
    expires_at: float


class _EventLog:
    def append(self, stream: str, events: Sequence[Event], expected: int | None) -> Call[int | None]:
        return Call(_append, stream, [_packed_event(event) for event in events], expected)

    def placed(self, stream: str, ids: Sequence[str]) -> Call[Placed]:
        return Call(_placed, stream, ids)

    def read(self, stream: str, after_version: int, limit: int) -> Call[list[Event]]:
        return Call(_read, stream, after_version, limit)

    def read_all(self, after: Position, limit: int) -> Call[list[Event]]:
        return Call(_read_all, after.number, limit)


class _Outbox:
    def add(self, message: Message) -> Call[None]:
        return Call(_add, _packed(message))

    def claim(self, owner: str, ttl: float) -> Call[bool]:
        return Call(_claim, owner, ttl)

    def release(self, owner: str) -> Call[None]:
        return Call(_release, owner)

    def batch(self, limit: int, longest: float) -> Call[list[Pending]]:
        del longest  # this clock does not survive its entries
        return Call(_batch, limit)

    def heads(self, after: int, limit: int, longest: float) -> Call[list[Pending]]:
        del longest
        return Call(_heads, after, limit)

    def remove(self, numbers: Sequence[int]) -> Call[None]:
        return Call(_remove, numbers)

    def refuse(self, number: int, delay: float) -> Call[None]:
        return Call(_refuse, number, delay)

    def bury(self, pending: Pending, error: str) -> Call[None]:
        return Call(_bury, replace(pending, message=_packed(pending.message)), error)

    def backlog(self) -> Call[Backlog]:
        return Call(_backlog)

    def dead(self, source: str | None, limit: int) -> Call[list[DeadLetter]]:
        return Call(_dead, source, limit)

    def discard(self, number: int) -> Call[bool]:
        return Call(_discard, number)

    def revive(self, number: int) -> Call[bool]:
        return Call(_revive, number)


class _Queue:
    def publish(self, messages: Sequence[Message]) -> Call[None]:
        return Call(_publish, [_packed(message) for message in messages])

    def peek(self, topic: str, name: str, limit: int) -> Call[list[Delivery]]:
        return Call(_peek, topic, name, limit)

    def subscribe(self, topic: str, name: str) -> Call[None]:
        return Call(_subscribe, topic, name)

    def claim(self, topic: str, name: str, owner: str, ttl: float) -> Call[Position | None]:
        return Call(_claim_subscription, topic, name, owner, ttl)

    def ack(self, topic: str, name: str, until: Position) -> Call[None]:
        return Call(_ack, topic, name, until.number)

    def release(self, topic: str, name: str, owner: str) -> Call[None]:
        return Call(_release_subscription, topic, name, owner)

    def unsubscribe(self, topic: str, name: str) -> Call[bool]:
        return Call(_unsubscribe, topic, name)

    def prune(self, topic: str, age: float, max_age: float | None, limit: int) -> Call[int]:
        return Call(_prune, topic, age, math.inf if max_age is None else max_age, limit)


event_log: _EventLog = _EventLog()
outbox: _Outbox = _Outbox()
queue: _Queue = _Queue()


def _packed_event(event: Event) -> Event:
    data, metadata = _json.encode("events", dict(event.data)), _json.encode("events", dict(event.metadata))
    return replace(event, data={"json": data}, metadata={"json": metadata})


def _unpacked_event(event: Event) -> Event:
    data, metadata = _json.decode(event.data["json"]), _json.decode(event.metadata["json"])
    return replace(event, data=data, metadata=metadata)


def _packed(message: Message) -> Message:
    payload = _json.encode("payload", message.payload)
    return replace(message, payload=payload, headers=dict(message.headers))


def _unpacked(message: Message) -> Message:
    return replace(message, payload=_json.decode(message.payload), headers=dict(message.headers))


def _whole(function: Callable[Concatenate[State, P], T]) -> Callable[Concatenate[State, P], T]:
    """Undo all that `function` has written when it fails, because a table is full, in the middle."""

    @functools.wraps(function)
    def whole(state: State, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return state.atomic(lambda: iter(Call(function, *args, **kwargs)))

    return whole


def _next(state: State, counter: str) -> int:
    numbers = state.table("event_numbers")
    number: int = (numbers.get(counter) or 0) + 1
    numbers.put(counter, number)
    return number


def _pair(first: str, second: object) -> str:
    return f"{first}\0{second}"  # names hold no control characters


@_whole
def _append(state: State, stream: str, events: Sequence[Event], expected: int | None) -> int | None:
    versions, ids = state.table("event_streams"), state.table("event_ids")
    version: int = versions.get(stream) or 0
    if expected not in (None, version) or any(ids.get(event.id) for event in events):
        return None
    for event in events:
        version += 1
        number = _next(state, "event")
        state.table("events").put(
            str(number),
            replace(
                event,
                stream=stream,
                version=version,
                position=Position(0, number),
                recorded_at=state.clock.wall(),
            ),
        )
        state.table("event_versions").put(_pair(stream, version), number)
        ids.put(event.id, (stream, version))
    versions.put(stream, version)
    return version


def _placed(state: State, stream: str, ids: Sequence[str]) -> Placed:
    known = ((event_id, state.table("event_ids").get(event_id)) for event_id in ids)
    version = state.table("event_streams").get(stream) or 0
    return Placed(version, {event_id: place for event_id, place in known if place})


def _read(state: State, stream: str, after_version: int, limit: int) -> list[Event]:
    last = min(state.table("event_streams").get(stream) or 0, after_version + limit)
    numbers = (
        state.table("event_versions").get(_pair(stream, version)) for version in range(after_version + 1, last + 1)
    )
    return _events(state, numbers)


def _read_all(state: State, after: int, limit: int) -> list[Event]:
    last = min(state.table("event_numbers").get("event") or 0, after + limit)
    return _events(state, range(after + 1, last + 1))


def _events(state: State, numbers: Iterable[object]) -> list[Event]:
    found = (state.table("events").get(str(number)) for number in numbers)
    return [_unpacked_event(event) for event in found if event is not None]


@_whole
def _add(state: State, message: Message) -> None:
    table = state.table("outbox")
    named = (message.topic, message.id)
    if all((waiting.message.topic, waiting.message.id) != named for _, waiting in table.items()):
        table.put(str(_next(state, "outbox")), _Waiting(message, state.now))


def _in_order(state: State) -> list[tuple[int, _Waiting]]:
    return sorted((int(number), waiting) for number, waiting in state.table("outbox").items())


def _batch(state: State, limit: int) -> list[Pending]:
    blocked: set[tuple[str, str]] = set()
    found: list[Pending] = []
    for number, (message, added_at, attempts, retry_at) in _in_order(state):
        order = (message.topic, message.key)
        if retry_at is not None and retry_at > state.now:
            blocked.add(order)
        elif not message.key or order not in blocked:
            found.append(Pending(number, _unpacked(message), attempts, state.now - added_at))
    return found[:limit]


def _heads(state: State, after: int, limit: int) -> list[Pending]:
    seen: set[tuple[str, str]] = set()
    found: list[Pending] = []
    for number, (message, added_at, attempts, retry_at) in _in_order(state):
        order = (message.topic, message.key)
        if number > after and order not in seen and (retry_at is None or retry_at <= state.now):
            found.append(Pending(number, _unpacked(message), attempts, state.now - added_at))
        if message.key:
            seen.add(order)
    return found[:limit]


def _remove(state: State, numbers: Sequence[int]) -> None:
    for number in numbers:
        state.table("outbox").delete(str(number))


def _refuse(state: State, number: int, delay: float) -> None:
    table = state.table("outbox")
    waiting: _Waiting | None = table.get(str(number))
    if waiting is not None:
        retry_at = state.now + delay
        table.put(str(number), waiting._replace(attempts=waiting.attempts + 1, retry_at=retry_at))


@_whole
def _bury(state: State, pending: Pending, error: str) -> None:
    table = state.table("outbox")
    if table.get(str(pending.number)) is not None:
        table.delete(str(pending.number))
        number = _next(state, "dead")
        letter = DeadLetter(number, "", pending.message, pending.attempts + 1, error, state.clock.wall())
        state.table("dead_letters").put(str(number), letter)


def _backlog(state: State) -> Backlog:
    waiting = [entry.added_at for _, entry in state.table("outbox").items()]
    oldest = max(0.0, state.now - min(waiting, default=state.now))
    return Backlog(len(waiting), oldest, len(state.table("dead_letters")))


def _dead(state: State, source: str | None, limit: int) -> list[DeadLetter]:
    letters: list[DeadLetter] = [letter for _, letter in state.table("dead_letters").items()]
    found = [letter for letter in letters if source in (None, letter.source)][:limit]
    return [replace(letter, message=_unpacked(letter.message)) for letter in found]


def _discard(state: State, number: int) -> bool:
    known = state.table("dead_letters").get(str(number)) is not None
    state.table("dead_letters").delete(str(number))
    return known


@_whole
def _revive(state: State, number: int) -> bool:
    letter: DeadLetter | None = state.table("dead_letters").get(str(number))
    if letter is None:
        return False
    _add(state, letter.message)
    return _discard(state, number)


def _claim(state: State, owner: str, ttl: float) -> bool:
    holder = state.table("relay").get("relay")
    if holder not in (None, owner):
        return False
    state.table("relay").put("relay", owner, expires_at=state.now + ttl)
    return True


def _release(state: State, owner: str) -> None:
    if state.table("relay").get("relay") == owner:
        state.table("relay").delete("relay")


@_whole
def _publish(state: State, messages: Sequence[Message]) -> None:
    known = state.table("message_ids")
    for message in messages:
        if known.get(_pair(message.topic, message.id)) is None:
            number = _next(state, "message")
            known.put(_pair(message.topic, message.id), number)
            state.table("messages").put(str(number), (message, state.now))


def _cursor(state: State, topic: str, name: str) -> int:
    found: _Subscription | None = state.table("subscriptions").get(_pair(topic, name))
    return found.number if found else 0


def _peek(state: State, topic: str, name: str, limit: int) -> list[Delivery]:
    cursor = _cursor(state, topic, name)
    messages = ((int(number), message) for number, (message, _) in state.table("messages").items())
    found = [(number, message) for number, message in messages if number > cursor and message.topic == topic]
    return [Delivery(_unpacked(message), Position(0, number)) for number, message in found[:limit]]


def _subscribe(state: State, topic: str, name: str) -> None:
    table = state.table("subscriptions")
    if table.get(_pair(topic, name)) is None:
        table.put(_pair(topic, name), _Subscription(0, "", state.now))


def _claim_subscription(state: State, topic: str, name: str, owner: str, ttl: float) -> Position | None:
    table = state.table("subscriptions")
    known: _Subscription | None = table.get(_pair(topic, name))
    if known is not None and known.owner != owner and known.expires_at > state.now:
        return None
    cursor = _cursor(state, topic, name)
    table.put(_pair(topic, name), _Subscription(cursor, owner, state.now + ttl))
    return Position(0, cursor)


def _ack(state: State, topic: str, name: str, until: int) -> None:
    table = state.table("subscriptions")
    known: _Subscription | None = table.get(_pair(topic, name))
    if known is not None and until > known.number:
        table.put(_pair(topic, name), known._replace(number=until))


def _release_subscription(state: State, topic: str, name: str, owner: str) -> None:
    table = state.table("subscriptions")
    known: _Subscription | None = table.get(_pair(topic, name))
    if known is not None and known.owner == owner:
        table.put(_pair(topic, name), known._replace(expires_at=state.now))


def _unsubscribe(state: State, topic: str, name: str) -> bool:
    known = state.table("subscriptions").get(_pair(topic, name)) is not None
    state.table("subscriptions").delete(_pair(topic, name))
    return known


def _prune(state: State, topic: str, age: float, max_age: float, limit: int) -> int:
    cursors = [
        subscription.number
        for place, subscription in state.table("subscriptions").items()
        if place.startswith(_pair(topic, ""))
    ]
    held = [entry for entry in state.table("messages").items() if entry[1][0].topic == topic]
    lost = 0
    for number, (message, published_at) in held[:limit]:
        unread = any(cursor < int(number) for cursor in cursors)
        if published_at < state.now - (max_age if unread else min(age, max_age)):
            state.table("messages").delete(number)
            state.table("message_ids").delete(_pair(topic, message.id))
            lost += unread
    return lost
