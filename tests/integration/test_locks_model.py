"""The Lua and SQL of locks give the same answers as the memory model, on random histories."""

import importlib
import math
import random
from dataclasses import dataclass, field

import pytest

from holdfast.backends.redis import Command, physical_key
from holdfast.locks import Holder, memory
from holdfast.locks.lease import Grant
from tests.integration import time_travel

HISTORIES = 20
STEPS = 60
NAMES = ("orders", "{x}:y")
OWNERS = ("ann", "bob", "with a space", "42 ann")
TTLS = (10.0, 20.0, 30.0)
PAUSES = (5.0, 10.0, 25.0)
# The time between two questions is real, however often the clock was moved by hand.
NEAR = 4.0
ARGUMENTS = {"acquire": 3, "extend": 3, "release": 2, "peek": 1, "force_release": 1}


@dataclass(slots=True)
class Tokens:
    """Pairs of tokens that model and store gave for the same grants: both must tell the same order."""

    pairs: list[tuple[int, int]] = field(default_factory=list)

    def agree(self, expected: int, given: int) -> bool:
        self.pairs.append((expected, given))
        return all(
            (expected < other) == (given < theirs) and (expected == other) == (given == theirs)
            for other, theirs in self.pairs
        )


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_any_history_gives_the_answers_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    store = importlib.import_module(f"holdfast.locks.{kind}")
    with time_travel.world(kind, request) as real:
        for seed in range(HISTORIES):
            compare(real, store, random.Random(seed), f"seed {seed}")
            real.advance(100.0)


def compare(real: time_travel.World, store: object, dice: random.Random, history: str) -> None:
    expected = time_travel.model()
    tokens = {name: Tokens() for name in NAMES}
    for _ in range(STEPS):
        step = dice.choice(["acquire", "acquire", "extend", "release", "peek", "force_release", "pause"])
        if step == "pause":
            seconds = dice.choice(PAUSES)
            history += f"\npause {seconds}"
            expected.advance(seconds)
            real.advance(seconds)
            continue
        name, owner = dice.choice(NAMES), dice.choice(OWNERS)
        arguments: tuple[object, ...] = (name, owner, dice.choice(TTLS))[: ARGUMENTS[step]]
        wanted = expected.ask(getattr(memory, step)(*arguments))
        given = real.ask(getattr(store, step)(*arguments))
        history += f"\n{step}{arguments} -> {wanted!r}, {given!r}"
        if isinstance(wanted, Grant):
            assert (given.token is None) == (wanted.token is None), history
            assert wanted.token is None or tokens[name].agree(wanted.token, given.token), history
            assert given.rest in {wanted.rest, math.inf} or abs(given.rest - wanted.rest) < NEAR, history
        elif isinstance(wanted, Holder):
            assert (given.label, tokens[name].agree(wanted.token, given.token)) == (wanted.label, True), history
            # The age is told by the token, which is not moved when time is made to pass here.
            assert step == "force_release" or abs(given.remaining - wanted.remaining) < NEAR, history
        else:
            assert given == wanted, history


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_tokens_are_exact_whole_numbers_that_outgrow_any_lost_data(kind: str, request: pytest.FixtureRequest) -> None:
    """A token is about the microseconds since 1970, so a store that forgot everything gives a greater one."""
    store = importlib.import_module(f"holdfast.locks.{kind}")
    with time_travel.world(kind, request) as real:
        first = real.ask(store.acquire("orders", "ann", 10.0)).token
    assert type(first) is int
    assert 1.6e15 < first < 4e15


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_a_clock_that_was_set_back_does_not_turn_tokens_back(kind: str, request: pytest.FixtureRequest) -> None:
    """A last token from an hour ahead is followed by the next whole number."""
    store = importlib.import_module(f"holdfast.locks.{kind}")
    with time_travel.world(kind, request) as real:
        first = real.ask(store.acquire("orders", "ann", 10.0)).token
        real.ask(store.release("orders", "ann"))
        ahead = first + 3_600_000_000
        if kind == "redis":
            real.ask(Command(("SET", physical_key("lock", "orders", suffix=":token"), ahead), writes=True))
        else:
            real.backend.execute("update holdfast_lock set token = :ahead", {"ahead": ahead})  # type: ignore[attr-defined]
        assert real.ask(store.acquire("orders", "bob", 10.0)).token == ahead + 1
        assert real.ask(store.acquire("orders", "bob", 10.0)).token == ahead + 1


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_rows_go_a_day_after_their_last_grant(kind: str, request: pytest.FixtureRequest) -> None:
    """Neither a lease that lives nor a recent token is removed."""
    store = importlib.import_module(f"holdfast.locks.{kind}")
    with time_travel.world(kind, request) as real:
        real.ask(store.acquire("old and over", "ann", 10.0))
        real.ask(store.acquire("old and held", "ann", 200_000.0))
        real.advance(100.0)
        two_days = 2 * 86_400 * 1_000_000
        real.backend.execute("update holdfast_lock set token = token - :age", {"age": two_days})  # type: ignore[attr-defined]
        real.ask(store.acquire("recent", "ann", 10.0))
        real.ask(store.release("recent", "ann"))
        real.ask(store.prune())
        rows = real.backend.execute("select name from holdfast_lock order by name")  # type: ignore[attr-defined]
        assert [row[0] for row in rows] == ["old and held", "recent"]
