import pickle

import pytest

from holdfast.errors import ConfigurationError
from holdfast.events import ANY, Event, Position


def test_positions_compare_by_transaction_first() -> None:
    assert Position.START < Position(1, 9) < Position(2, 3) < Position(10, 1)


def test_positions_survive_as_text() -> None:
    assert Position.parse(str(Position(2**63, 7))) == Position(2**63, 7)


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "-1.2", "1.2.3", "1.x", "\u0661.1x"])
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="position="):
        Position.parse(text)


def test_events_are_frozen_and_have_ids_of_their_own() -> None:
    one, other = Event("happened"), Event("happened")
    assert one.id != other.id
    with pytest.raises(AttributeError):
        one.type = "never happened"  # type: ignore[misc]


def test_events_and_any_can_be_pickled() -> None:
    event = Event("happened", {"a": 1})
    assert pickle.loads(pickle.dumps(event)) == event
    assert pickle.loads(pickle.dumps(ANY)) is ANY
