import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import holdfast
from holdfast.errors import ConfigurationError
from holdfast.events import ANY, Event, EventStore, Position


def test_positions_compare_by_transaction_first() -> None:
    assert Position.START < Position(1, 9) < Position(2, 3) < Position(10, 1)


def test_positions_survive_as_text() -> None:
    assert Position.parse(str(Position(2**63, 7))) == Position(2**63, 7)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "-1.2", "1.2.3", "1.x", "\u0661.1x", f"{2**64}.1", f"1.{2**63}", "9" * 9999 + ".1"]
)
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="position="):
        Position.parse(text)


def test_events_are_frozen_and_have_ids_of_their_own() -> None:
    one, other = Event("happened"), Event("happened")
    assert one.id != other.id
    with pytest.raises(AttributeError):
        one.type = "never happened"  # type: ignore[misc]


def test_an_id_is_given_once() -> None:
    """Whoever asks first, all see the same, also those who got a copy."""
    event = Event("happened")
    with holdfast.connect("memory://") as backend:
        EventStore(backend).append("a", [event], expected_version=0)
        (stored,) = EventStore(backend).read("a")
    assert stored.id == event.id == replace(event, stream="a").id
    asked = Event("happened")
    assert asked.id == asked.id == pickle.loads(pickle.dumps(asked)).id
    with ThreadPoolExecutor(8) as pool:
        shared = Event("happened")
        assert len(set(pool.map(lambda _: shared.id, range(64)))) == 1


def test_only_ids_come_later() -> None:
    with pytest.raises(AttributeError, match="'Event' object has no attribute 'name'"):
        _ = Event("happened").name  # type: ignore[attr-defined]


def test_events_and_any_can_be_pickled() -> None:
    event = Event("happened", {"a": 1})
    assert pickle.loads(pickle.dumps(event)) == event
    assert pickle.loads(pickle.dumps(ANY)) is ANY
