"""The Lua and SQL of token buckets give the same answers as the memory model, on random histories."""

import importlib
import random

import pytest

from holdfast.ratelimit import memory
from tests.integration import time_travel

HISTORIES = 20
STEPS = 60
KEYS = ("user:7", "{x}:y")
# Everything is a multiple of a quarter token, and the rate so slow that the real time that passes while the test runs
# never makes a quarter: so the slightest disagreement about a decision shows.
RATE = 0.01
COSTS = (0.25, 0.5, 1, 2.25, 5)
CAPACITIES = (5, 7.5, 20)
PAUSES = (25.0, 50.0, 100.0, 1000.0)


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_any_history_gives_the_answers_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    store = importlib.import_module(f"holdfast.ratelimit.{kind}")
    with time_travel.world(kind, request) as real:
        for seed in range(HISTORIES):
            compare(real, store, random.Random(seed), f"seed {seed}", name=f"history-{seed}")


def compare(real: time_travel.World, store: object, dice: random.Random, history: str, *, name: str) -> None:
    expected = time_travel.model()
    capacity = dice.choice(CAPACITIES)
    for _ in range(STEPS):
        if dice.random() < 0.2:
            seconds = dice.choice(PAUSES)
            history += f"\npause {seconds}"
            expected.advance(seconds)
            real.advance(seconds)
            continue
        key, cost = dice.choice(KEYS), dice.choice(COSTS)
        allowed, tokens = expected.ask(memory.take(name, key, capacity=capacity, refill_rate=RATE, cost=cost))
        given, left = real.ask(store.take(name, key, capacity=capacity, refill_rate=RATE, cost=cost))
        history += f"\ntake {cost} of {key} -> {allowed} {tokens}, {given} {left}"
        assert given is allowed, history
        assert tokens - 1e-5 <= left < tokens + 0.25, history


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_nothing_is_kept_of_a_bucket_that_is_full_again(kind: str, request: pytest.FixtureRequest) -> None:
    store = importlib.import_module(f"holdfast.ratelimit.{kind}")
    with time_travel.world(kind, request) as real:
        for number in range(100):
            real.ask(store.take("many", f"user:{number}", capacity=10, refill_rate=1, cost=5))
        real.ask(store.take("many", "filling", capacity=1000, refill_rate=1, cost=1000))
        real.advance(25.0)
        if (prune := store.prune()) is not None:
            real.ask(prune)
        assert real.stored("token_bucket") == 1
