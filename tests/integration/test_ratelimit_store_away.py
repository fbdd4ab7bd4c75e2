"""A store that is slow, frozen or gone is a decision, not a hang."""

import threading
import time
from typing import Any

import pytest
import redis
import redis.asyncio

from holdfast import signals
from holdfast.checks import LONGEST_TIMEOUT
from holdfast.ratelimit import LimiterDegraded, TokenBucketLimiter
from holdfast.testing.services import RedisServer

TIMEOUT = 0.25
# What a busy machine may add.
GRACE = 0.25


def limiter_on(client: Any, **options: Any) -> Any:
    return TokenBucketLimiter(client, capacity=2, refill_rate=0.001, **options)


@pytest.mark.parametrize(("on_error", "allowed"), [("open", True), ("closed", False)])
async def test_a_frozen_store_is_given_up_at_the_deadline(
    own_redis_server: RedisServer, on_error: str, *, allowed: bool
) -> None:
    """An answer comes after `timeout` seconds, whatever the client's own settings are, and says how it was made."""
    async with redis.asyncio.Redis.from_url(own_redis_server.url) as client:
        limiter = limiter_on(client, on_error=on_error)
        assert (await limiter.acquire("user:7")).degraded is False
        own_redis_server.pause()
        began = time.monotonic()
        decision = await limiter.acquire("user:7")
        took = time.monotonic() - began
        own_redis_server.resume()
    assert (decision.allowed, decision.degraded) == (allowed, True)
    assert TIMEOUT * 0.9 <= took <= TIMEOUT + GRACE


@pytest.mark.parametrize(("on_error", "allowed"), [("open", True), ("closed", False)])
def test_a_frozen_store_is_given_up_at_the_deadline_in_a_thread(
    own_redis_server: RedisServer, on_error: str, *, allowed: bool
) -> None:
    """The same for a blocking client."""
    with redis.Redis.from_url(own_redis_server.url) as client:
        limiter = limiter_on(client, on_error=on_error)
        assert limiter.acquire("user:7").degraded is False
        own_redis_server.pause()
        began = time.monotonic()
        decision = limiter.acquire("user:7")
        took = time.monotonic() - began
        own_redis_server.resume()
    assert (decision.allowed, decision.degraded) == (allowed, True)
    assert TIMEOUT * 0.9 <= took <= TIMEOUT + GRACE


def test_the_longest_deadline_is_one_that_sockets_keep(redis_url: str) -> None:
    """A longer one overflowed in the socket, and each ask failed at once and was allowed."""
    with redis.Redis.from_url(redis_url) as client:
        limiter = limiter_on(client, timeout=LONGEST_TIMEOUT)
        decisions = [limiter.acquire("user:7") for _ in range(3)]
    assert [(decision.allowed, decision.degraded) for decision in decisions] == [
        (True, False),
        (True, False),
        (False, False),
    ]


async def test_a_killed_store_is_noticed_at_once_and_counted_locally(own_redis_server: RedisServer) -> None:
    """With "local" this process goes on counting: the whole limit, and not a token more; and it is told each time."""
    heard: list[LimiterDegraded] = []
    unsubscribe = signals.subscribe(LimiterDegraded, heard.append)
    async with redis.asyncio.Redis.from_url(own_redis_server.url) as client:
        limiter = limiter_on(client, on_error="local", name="api")
        own_redis_server.kill()
        began = time.monotonic()
        decisions = [await limiter.acquire("user:7") for _ in range(4)]
        took = time.monotonic() - began
    unsubscribe()
    assert [decision.allowed for decision in decisions] == [True, True, False, False]
    assert all(decision.degraded for decision in decisions)
    assert [(record.name, record.key, record.on_error) for record in heard] == [("api", "user:7", "local")] * 4
    assert took < TIMEOUT


async def test_the_store_decides_again_once_it_is_back(own_redis_server: RedisServer) -> None:
    """Nothing has to be restarted after an outage."""
    async with redis.asyncio.Redis.from_url(own_redis_server.url) as client:
        limiter = limiter_on(client)
        own_redis_server.kill()
        assert (await limiter.acquire("user:7")).degraded
        own_redis_server.restart()
        assert not (await limiter.acquire("user:7")).degraded


def test_asks_from_many_threads_cost_one_round_trip_each(redis_url: str) -> None:
    """One script call per decision, refused or not."""
    with redis.Redis.from_url(redis_url) as server, redis.Redis.from_url(redis_url) as client:
        limiter = limiter_on(client)
        limiter.is_allowed("warm")
        server.config_resetstat()
        threads = [threading.Thread(target=limiter.is_allowed, args=("user:7",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calls = server.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 20
    assert "cmdstat_eval" not in calls
