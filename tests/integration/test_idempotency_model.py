"""The Lua and SQL of idempotency give the same answers as the memory model, on random histories."""

import contextlib
import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis

from holdfast.idempotency import memory
from holdfast.idempotency.keys import identity
from holdfast.idempotency.store import Busy, Claim
from tests.integration import time_travel

HISTORIES = 20
STEPS = 80
KEYS = ("a", "{x}:y")
OWNERS = ("ann", "bob", "cid")
FINGERPRINTS = ("", "one", "one", "one", "two")
LEASES = (10.0, 20.0, 60.0)
TTLS = (15.0, 30.0, 90.0)
PAUSES = (5.0, 10.0, 25.0)


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_any_history_gives_the_answers_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    store = importlib.import_module(f"holdfast.idempotency.{kind}")
    with world(kind, request) as (backend, advance):
        for seed in range(HISTORIES):
            compare(backend, store, advance, random.Random(seed), f"seed {seed}")
            advance(200.0)


def compare(backend: Any, store: Any, advance: Callable[[float], None], dice: random.Random, history: str) -> None:
    model = time_travel.model()
    claims: list[Claim] = []
    for _ in range(STEPS):
        step = dice.choice(["claim", "claim", "claim", "extend", "complete", "release", "look", "pause", "prune"])
        if step == "pause":
            seconds = dice.choice(PAUSES)
            history += f"\npause {seconds}"
            model.advance(seconds)
            advance(seconds)
            continue
        if step == "prune":
            if (request := store.prune(dice.choice([1, 100]))) is not None:
                request.carry(backend)
            continue
        if step == "claim" or not claims:
            step = "claim"
            claims.append(claim_of(dice))
        claim = claims[-1] if step == "claim" else dice.choice(claims[-4:])
        wanted, given = (answer(db, module, step, claim) for db, module in ((model.backend, memory), (backend, store)))
        history += f"\n{step} {claim} -> {wanted!r}, {given!r}"
        assert agree(wanted, given), history


def claim_of(dice: random.Random) -> Claim:
    key = dice.choice(KEYS)
    return Claim(
        identity=identity("", "/p", key),
        scope="",
        endpoint="/p",
        key=key,
        owner=dice.choice(OWNERS) + str(dice.getrandbits(30)),
        fingerprint=dice.choice(FINGERPRINTS),
        lease=dice.choice(LEASES),
        ttl=dice.choice(TTLS),
    )


def answer(backend: Any, store: Any, step: str, claim: Claim) -> Any:
    if step == "claim":
        return backend.run(store.claim(claim))
    arguments = (claim, f'"{claim.owner}"') if step == "complete" else (claim,)
    return getattr(store, step)(*arguments).carry(backend)


def agree(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, Busy) and isinstance(given, Busy):
        # Seconds differ by the real time that passed, and where a lease is over it does not matter by how much.
        near = abs(wanted.seconds - given.seconds) < 3.0
        return wanted.fingerprint == given.fingerprint and near
    return bool(wanted == given)


@contextmanager
def world(kind: str, request: pytest.FixtureRequest) -> Iterator[tuple[Any, Callable[[float], None]]]:
    """Open an empty store, and tell how to let time pass on it."""
    with contextlib.ExitStack() as closing:
        real = closing.enter_context(time_travel.world(kind, request))
        if kind == "redis":
            client = closing.enter_context(redis.Redis.from_url(request.getfixturevalue("redis_url")))
        elif kind == "postgres":
            connection = closing.enter_context(
                psycopg.connect(request.getfixturevalue("postgres_url"), autocommit=True)
            )

        def advance(seconds: float) -> None:
            real.advance(seconds)
            if kind == "redis":
                for key in client.keys("holdfast:idempotency:*"):
                    client.hincrby(key, "lease_ends", -int(seconds * 1000))
            elif kind == "postgres":
                connection.execute(
                    "update holdfast_idempotency set expires_at = expires_at - make_interval(secs => %s),"
                    " lease_ends = lease_ends - make_interval(secs => %s)",
                    [seconds, seconds],
                )

        yield real.backend, advance
