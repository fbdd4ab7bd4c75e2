"""What locks cost on Redis, and what they leave there."""

import asyncio
from collections.abc import Iterator
from typing import Self

import pytest
import redis
import redis.asyncio

from holdfast.locks import Lock, RedisLock

PAIRS = 20
DAY_MS = 86_400_000


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """Connect a client that only looks."""
    with redis.Redis.from_url(redis_url) as client:
        client.ping()
        yield client


class Cost:
    """What the server did inside a `with` block, without the looking itself."""

    def __init__(self, server: redis.Redis) -> None:
        self.server = server

    def __enter__(self) -> Self:
        self.server.config_resetstat()
        return self

    def __exit__(self, *_: object) -> None:
        # Our own reply to INFO is one more read; CONFIG RESETSTAT has forgotten its own.
        self.reads = self.server.info("stats")["total_reads_processed"] - 1
        self.calls = {
            name.removeprefix("cmdstat_"): facts["calls"] for name, facts in self.server.info("commandstats").items()
        }


def test_a_pair_costs_two_round_trips(redis_url: str, server: redis.Redis) -> None:
    """One for `acquire`, one for `release`: two calls of scripts, and not one read more on the server's socket."""
    with redis.Redis.from_url(redis_url) as client:
        lock = RedisLock(client, "cost")
        with lock:
            pass
        with Cost(server) as cost:
            for _ in range(PAIRS):
                with lock:
                    pass
    assert cost.calls["evalsha"] == 2 * PAIRS
    assert cost.reads == 2 * PAIRS


async def test_a_pair_costs_two_round_trips_in_asyncio_too(redis_url: str, server: redis.Redis) -> None:
    """The same for an asyncio client."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        lock = RedisLock(client, "cost")
        async with lock:
            pass
        with Cost(server) as cost:
            for _ in range(PAIRS):
                async with lock:
                    pass
    assert cost.calls["evalsha"] == 2 * PAIRS
    assert cost.reads == 2 * PAIRS


def test_lost_data_does_not_turn_tokens_back(redis_url: str, server: redis.Redis) -> None:
    """After Redis lost everything the next token is greater all the same."""
    with redis.Redis.from_url(redis_url) as client:
        before = Lock(client, "lost").acquire(timeout=0)
        server.flushdb()
        after = Lock(client, "lost").acquire(timeout=0)
    assert before is not None
    assert after is not None
    assert after.token > before.token


def test_nothing_stays_for_ever(redis_url: str, server: redis.Redis) -> None:
    """Every key has a TTL: the lease its own, the last token a day more."""
    with redis.Redis.from_url(redis_url) as client:
        lease = Lock(client, "stay", ttl=10).acquire(timeout=0)
        assert lease is not None
        assert lease.extend(ttl=20)
    left = {key.decode(): server.pttl(key) for key in server.keys("*")}
    assert set(left) == {"holdfast:lock:{stay}", "holdfast:lock:{stay}:token"}
    assert 0 < left["holdfast:lock:{stay}"] <= 20_000
    assert 0 < left["holdfast:lock:{stay}:token"] - left["holdfast:lock:{stay}"] <= DAY_MS + 10


async def test_waiters_are_all_served(redis_url: str) -> None:
    """Contended asks wait for each other, and nobody gets an error."""
    inside = 0

    async def turn(client: redis.asyncio.Redis) -> None:
        nonlocal inside
        async with RedisLock(client, "crowd", timeout=30):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await asyncio.gather(*(turn(client) for _ in range(50)))
