"""What every backend must do for an event store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.backends import Backend
from holdfast.errors import ConcurrencyConflict, ConfigurationError, HoldfastError
from holdfast.events import ANY, Aggregate, Event, EventStore, Position, uuid7, when
from holdfast.testing.contracts._either import settle, together

__all__ = ["EventStoreContract", "Ledger", "caught"]

HOSTILE: dict[str, Any] = {
    "text": "\0 ' \" \\ \ud800 é e\u0301 \u2028",
    "numbers": [0, -1, 2**80, 0.1, 1e300, -0.0],
    "nested": {"a": [{"b": [None, True, False, {}]}], "": ""},
    "%s": ":name $1 {}",
}


async def caught(action: Callable[[], Any]) -> Any:
    """Return the error of ours that `action` ends with, or its result."""
    try:
        return await settle(action())
    except HoldfastError as error:
        return error


def deposits(*amounts: int) -> list[Event]:
    """Return one event per amount."""
    return [Event("deposited", {"amount": amount}) for amount in amounts]


class Ledger(Aggregate):
    """The aggregate of the suite: a balance that never goes below zero."""

    def __init__(self) -> None:
        self.balance: int = 0

    def deposit(self, amount: int) -> None:
        """Put money in."""
        self.record("deposited", {"amount": amount})

    def withdraw(self, amount: int) -> None:
        """Take money out, if there is enough."""
        if amount > self.balance:
            message = f"the balance is {self.balance}"
            raise ValueError(message)
        self.record("withdrawn", {"amount": amount})

    @when("deposited")
    def _deposited(self, event: Event) -> None:
        self.balance += event.data["amount"]

    @when("withdrawn")
    def _withdrawn(self, event: Event) -> None:
        self.balance -= event.data["amount"]


class EventStoreContract:
    """Appends are all or nothing and checked; reads are complete and in order."""

    async def test_a_stream_grows_event_by_event(self, backend: Backend[Any]) -> None:
        """Each append returns the version it led to, and reading returns what was appended."""
        store: Any = EventStore(backend)
        assert await settle(store.append("account", deposits(1, 2), expected_version=0)) == 2
        assert await settle(store.append("account", deposits(3), expected_version=2)) == 3
        events = await settle(store.read("account"))
        assert [(event.version, event.data["amount"]) for event in events] == [(1, 1), (2, 2), (3, 3)]
        assert {event.stream for event in events} == {"account"}
        assert all(event.recorded_at > 0 for event in events)

    async def test_an_unknown_stream_is_empty(self, backend: Backend[Any]) -> None:
        """There is nothing to read where nothing was appended."""
        assert await settle(EventStore(backend).read("nobody")) == []

    async def test_what_is_read_is_what_was_appended(self, backend: Backend[Any]) -> None:
        """Data, metadata, type and id come back unchanged, however hostile."""
        given = Event("'; drop table x; --", HOSTILE, metadata={"by": HOSTILE})
        await settle(EventStore(backend).append("{a}:' %", [given], expected_version=0))
        (event,) = await settle(EventStore(backend).read("{a}:' %"))
        assert (event.type, event.data, event.metadata, event.id) == (
            given.type,
            given.data,
            given.metadata,
            given.id,
        )

    async def test_what_is_stored_is_nobodys_to_change(self, backend: Backend[Any]) -> None:
        """Whoever changes the objects that were given or read changes no event; tuples are lists afterwards."""
        store: Any = EventStore(backend)
        data: dict[str, Any] = {"items": (1, 2)}
        await settle(store.append("account", [Event("happened", data, metadata=data)], expected_version=0))
        data["items"] = ()
        for _ in range(2):
            (event,) = await settle(store.read("account"))
            assert event.data == event.metadata == {"items": [1, 2]}
            event.data["items"].append(3)

    async def test_another_version_is_a_conflict(self, backend: Backend[Any]) -> None:
        """An expected version that is behind or ahead is refused with the facts, and nothing is stored."""
        store: Any = EventStore(backend)
        await settle(store.append("account", deposits(1, 2), expected_version=0))
        for expected in (0, 1, 3):
            error = await caught(lambda: store.append("account", deposits(9, 9), expected_version=expected))  # noqa: B023
            assert isinstance(error, ConcurrencyConflict)
            assert error.facts == {"stream": "account", "expected": expected, "actual": 2}
        assert len(await settle(store.read("account"))) == 2

    async def test_repeating_an_append_is_harmless(self, backend: Backend[Any]) -> None:
        """The same events at the same version lead to the same version, also when others came after."""
        store: Any = EventStore(backend)
        events = deposits(1, 2)
        for expected in (0, ANY):
            assert await settle(store.append("account", events, expected_version=0)) == 2
            assert await settle(store.append("account", events, expected_version=expected)) == 2
            await settle(store.append("account", deposits(3), expected_version=ANY))
        assert [event.data["amount"] for event in await settle(store.read("account"))] == [1, 2, 3, 3]

    async def test_an_event_is_stored_once(self, backend: Backend[Any]) -> None:
        """An event id that is stored already cannot be appended elsewhere, alone or among others."""
        store: Any = EventStore(backend)
        events = deposits(1, 2)
        await settle(store.append("account", events, expected_version=0))
        for stream, batch, expected in [
            ("other", events, 0),
            ("other", events, ANY),
            ("account", [*deposits(3), events[1]], 2),
            ("account", [events[0], *deposits(3)], ANY),
            ("account", events, 2),
        ]:
            error = await caught(lambda: store.append(stream, batch, expected_version=expected))  # noqa: B023
            assert isinstance(error, ConcurrencyConflict), (stream, expected)
        assert len(await settle(store.read_all())) == 2

    async def test_one_of_many_wins(self, backend: Backend[Any]) -> None:
        """Of writers that expect the same version one succeeds, the others are refused."""
        store: Any = EventStore(backend)
        results = await together(
            backend, 8, lambda number: store.append("contested", deposits(number, number), expected_version=0)
        )
        assert [result for result in results if result == 2] == [2], results
        assert sum(isinstance(result, ConcurrencyConflict) for result in results) == 7, results
        assert len(await settle(store.read("contested"))) == 2

    async def test_any_version_takes_all(self, backend: Backend[Any]) -> None:
        """With ANY every writer succeeds, and versions have no gaps."""
        store: Any = EventStore(backend)
        results = await together(
            backend, 8, lambda number: store.append("busy", deposits(number, number), expected_version=ANY)
        )
        assert sorted(results) == list(range(2, 17, 2)), results
        assert [event.version for event in await settle(store.read("busy"))] == list(range(1, 17))

    async def test_reading_goes_on_where_it_stopped(self, backend: Backend[Any]) -> None:
        """`after_version` and `limit` page through a stream."""
        store: Any = EventStore(backend)
        await settle(store.append("long", deposits(*range(1, 26)), expected_version=0))
        seen: list[int] = []
        while page := await settle(store.read("long", after_version=len(seen), limit=10)):
            assert len(page) <= 10
            seen += [event.data["amount"] for event in page]
        assert seen == list(range(1, 26))

    async def test_all_events_have_one_order(self, backend: Backend[Any]) -> None:
        """Paging through all events finds each once, in growing positions that survive as text."""
        store: Any = EventStore(backend)
        for number in range(4):
            for stream in ("a", "b", "c"):
                await settle(store.append(stream, deposits(number), expected_version=number))
        seen: list[Event] = []
        cursor = Position.START
        while page := await settle(store.read_all(after=cursor, limit=5)):
            seen += page
            cursor = Position.parse(str(page[-1].position))
        assert [(event.stream, event.version) for event in seen] == [
            (stream, version) for version in range(1, 5) for stream in ("a", "b", "c")
        ]
        positions: list[Any] = [event.position for event in seen]
        assert positions == sorted(set(positions))

    async def test_bad_input_is_refused_before_anything_is_done(self, backend: Backend[Any]) -> None:
        """Each wrong argument gets an error that names it."""
        store: Any = EventStore(backend)
        one = Event("deposited")
        for events in [
            [],
            [Event("")],
            [one, one],
            [Event("x", id="7")],
            [Event("x", id=uuid7().upper())],
            [Event("x", {"x": float("nan")})],
            [Event("x", {"x": {1, 2}})],
            [Event("x", {"x": {1: 2}})],
            [Event("x", None)],  # type: ignore[arg-type]
            [Event("x", [("a", 1)])],  # type: ignore[arg-type]
            [Event("x", metadata=7)],  # type: ignore[arg-type]
        ]:
            error = await caught(lambda: store.append("account", events, expected_version=0))  # noqa: B023
            assert isinstance(error, ConfigurationError), events
        for stream, expected in [
            ("", 0),
            ("a\nb", 0),
            ("account", -1),
            ("account", None),
            ("account", True),
            ("account", 2**63),
        ]:
            error = await caught(lambda: store.append(stream, [one], expected_version=expected))  # noqa: B023
            assert isinstance(error, ConfigurationError), (stream, expected)
        for wrong in (0, 2**63, 10**30):
            assert isinstance(await caught(lambda: store.read("account", limit=wrong)), ConfigurationError)  # noqa: B023
            assert isinstance(await caught(lambda: store.read_all(limit=wrong)), ConfigurationError)  # noqa: B023
        assert isinstance(await caught(lambda: store.read("account", after_version=2**63)), ConfigurationError)
        for position in (Position(0, 2**63), Position(2**64, 0), Position(-1, 0)):
            assert isinstance(await caught(lambda: store.read_all(after=position)), ConfigurationError)  # noqa: B023
        assert await settle(store.read_all()) == []

    async def test_an_aggregate_is_what_its_events_say(self, backend: Backend[Any]) -> None:
        """A saved aggregate is rebuilt as it was, and saving it twice stores nothing twice."""
        store: Any = EventStore(backend)
        ledger = await settle(Ledger.load(store, "ledger"))
        ledger.deposit(10)
        ledger.withdraw(3)
        assert (ledger.version, len(ledger.pending)) == (0, 2)
        assert await settle(ledger.save(store)) == 2
        assert await settle(ledger.save(store)) == 2
        again = await settle(Ledger.load(store, "ledger"))
        assert (again.balance, again.version, again.pending) == (7, 2, ())

    async def test_of_two_decisions_on_one_state_one_is_refused(self, backend: Backend[Any]) -> None:
        """Two that loaded the same version cannot both spend the same balance."""
        store: Any = EventStore(backend)
        await settle(store.append("ledger", deposits(10), expected_version=0))
        first, second = [await settle(Ledger.load(store, "ledger")) for _ in range(2)]
        first.withdraw(8)
        second.withdraw(8)
        await settle(first.save(store))
        assert isinstance(await caught(lambda: second.save(store)), ConcurrencyConflict)
        assert (await settle(Ledger.load(store, "ledger"))).balance == 2
