"""The model is all or nothing, as what it models."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.backends.memory import MemorySync, State
from holdfast.errors import BackendUnavailable
from holdfast.events import ANY, DeadLetters, Event, EventStore, MemoryBroker, Message, MessageRefused, Outbox, Relay


def dump(backend: MemorySync) -> dict[str, Any]:
    names = backend.state._tables
    return {name: dict(table.items()) for name, table in names.items() if len(table)}


def append(backend: MemorySync) -> None:
    EventStore(backend).append("a", [Event("happened") for _ in range(4)], expected_version=ANY)


def publish(backend: MemorySync) -> None:
    MemoryBroker(backend).publish([Message(id=f"{number}", topic="t") for number in range(4)])


@pytest.mark.parametrize("write", [append, publish])
def test_a_write_into_a_full_table_leaves_nothing(write: Callable[[MemorySync], None]) -> None:
    backend = MemorySync(State(max_entries=3))
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="full"):
            write(backend)
        assert dump(backend) == {}


def test_a_message_is_not_lost_between_two_tables() -> None:
    """There is no room for the letter, so the message stays where it was."""

    class Refusing:
        def publish(self, messages: object) -> None:
            raise MessageRefused("no")

    backend = MemorySync(State(max_entries=3))
    outbox, relay = Outbox(backend), Relay(backend, Refusing(), max_attempts=1)
    for number in range(3):
        outbox.add("t", number)
        relay.run_once()
    outbox.add("t", 3)
    with pytest.raises(BackendUnavailable, match="full"):
        relay.run_once()
    assert [letter.message.payload for letter in DeadLetters(backend).read()] == [0, 1, 2]
    assert outbox.backlog().messages == 1
