"""The bounded table below the memory model of every pattern."""

from __future__ import annotations

import pytest

from holdfast.backends.memory import Call, State
from holdfast.errors import BackendUnavailable
from holdfast.operations import Steps
from holdfast.testing.clock import VirtualClock


def put(state: State, key: str, expires_at: float | None, *, evict: bool = False) -> None:
    """Write one entry."""
    state.table("entries", evict=evict).put(key, key, expires_at=expires_at)


def keys(state: State) -> list[str]:
    """The live entries, oldest first."""
    return [key for key, _ in state.table("entries").items()]


def test_a_table_full_of_ended_entries_takes_new_ones() -> None:
    """Also when two that live on are older than all that have ended."""
    clock = VirtualClock()
    state = State(clock=clock, max_entries=4)
    for key, end in (("a", None), ("b", 100.0), ("c", 2.0), ("d", 1.0)):
        state.call(put, (key, end))
    with pytest.raises(BackendUnavailable, match="4 live entries"):
        state.call(put, ("e", None))
    clock.advance(1.5)
    state.call(put, ("e", None))
    assert keys(state) == ["a", "b", "c", "e"]
    with pytest.raises(BackendUnavailable, match="4 live entries"):
        state.call(put, ("f", None))
    clock.advance(1.0)
    state.call(put, ("f", None))
    assert keys(state) == ["a", "b", "e", "f"]


def test_an_eviction_is_undone_with_the_write_that_needed_the_room() -> None:
    """All or none includes what was dropped."""
    state = State(clock=VirtualClock(), max_entries=2)
    for key in ("a", "b"):
        state.table("entries", evict=True).put(key, key)

    def failing() -> Steps[None]:
        yield Call(lambda state: state.table("entries").put("c", "c"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.atomic(failing)
    assert sorted(keys(state)) == ["a", "b"]
