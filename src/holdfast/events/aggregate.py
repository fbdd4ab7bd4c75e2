"""`Aggregate`: an object whose state is the sum of its events.

    class Account(Aggregate):
        def __init__(self) -> None:
            self.balance = 0

        def deposit(self, amount: int) -> None:
            if amount <= 0:
                raise ValueError("amount must be positive")
            self.record("deposited", {"amount": amount})

        @when("deposited")
        def _deposited(self, event: Event) -> None:
            self.balance += event.data["amount"]

    account = await Account.load(store, "account-7")
    account.deposit(5)
    await account.save(store)

Methods that decide check the rules and `record` what happened; methods marked with `when` change the
state and check nothing: what is recorded did happen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, TypeVar, overload

from holdfast import checks
from holdfast.errors import ConfigurationError
from holdfast.events.event import Event
from holdfast.events.event_store import DEFAULT_LIMIT, EventStore, appending
from holdfast.operations import Async, Steps, Sync

__all__ = ["Aggregate", "when"]

A = TypeVar("A", bound="Aggregate")
Applies = Callable[[Any, Event], None]
_MARK = "_holdfast_event_types"


def when(*types: str) -> Callable[[Applies], Applies]:
    """Mark a method as the one that applies events of these types."""
    checked = tuple(checks.key("event type", name) for name in types)

    def mark(method: Applies) -> Applies:
        setattr(method, _MARK, checked)
        return method

    return mark


class Aggregate:
    """The base of objects that are rebuilt from a stream. `__init__` takes no arguments.

    Attributes:
        stream: where its events are; "" before `load`.
        version: the stream's version that was loaded or saved last.
        pending: recorded events that are not saved yet.
    """

    stream: str = ""
    version: int = 0
    pending: tuple[Event, ...] = ()
    _appliers: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {event_type: name for name, member in vars(cls).items() for event_type in getattr(member, _MARK, ())}
        cls._appliers = {**cls._appliers, **own}

    def record(self, event_type: str, data: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None) -> Event:
        """Note that something happened: it is applied now and stored by `save`."""
        event = Event(event_type, data, metadata=metadata or {})
        self.apply(event)
        self.pending = (*self.pending, event)
        return event

    def apply(self, event: Event) -> None:
        """Change the state as `event` says.

        Raises:
            ConfigurationError: no method is marked `@when` with this type. Ignoring it would rebuild a
                state that is wrong; a type that means nothing any more gets a method that does nothing.
        """
        name = self._appliers.get(event.type)
        if name is None:
            message = (
                f"{type(self).__qualname__} has no method for event type {event.type!r} "
                f"(stream {event.stream or self.stream!r}): mark one with @when({event.type!r})"
            )
            raise ConfigurationError(message, event_type=event.type)
        getattr(self, name)(event)

    @overload
    @classmethod
    def load(cls: type[A], store: EventStore[Async], stream: str) -> Coroutine[Any, Any, A]: ...
    @overload
    @classmethod
    def load(cls: type[A], store: EventStore[Sync], stream: str) -> A: ...
    @classmethod
    def load(cls, store: EventStore[Any], stream: str) -> Any:
        """Rebuild the aggregate from `stream`; a new one of version 0 when there are no events."""
        return store._driver.run(_loading(cls, store, checks.key("stream", stream)))  # noqa: SLF001

    @overload
    def save(self, store: EventStore[Async]) -> Coroutine[Any, Any, int]: ...
    @overload
    def save(self, store: EventStore[Sync]) -> int: ...
    def save(self, store: EventStore[Any]) -> Any:
        """Append the pending events at the version that was loaded, and return the new version.

        After `OutcomeUnknown` call it again. After `ConcurrencyConflict` load again and decide again.
        In a transaction that is rolled back later, throw this object away: it believes it was saved.
        """
        return store._driver.run(_saving(self, store))  # noqa: SLF001


def _loading(kind: type[A], store: EventStore[Any], stream: str) -> Steps[A]:
    aggregate = kind()
    aggregate.stream = stream
    while True:
        events = yield from store._log.read(stream, aggregate.version, DEFAULT_LIMIT)  # noqa: SLF001
        for event in events:
            aggregate.apply(event)
            aggregate.version = event.version
        if len(events) < DEFAULT_LIMIT:
            return aggregate


def _saving(aggregate: Aggregate, store: EventStore[Any]) -> Steps[int]:
    pending = aggregate.pending
    if pending:
        aggregate.version = yield from appending(
            store._driver,  # noqa: SLF001
            store._log,  # noqa: SLF001
            aggregate.stream,
            pending,
            aggregate.version,
        )
        aggregate.pending = aggregate.pending[len(pending) :]
    return aggregate.version
