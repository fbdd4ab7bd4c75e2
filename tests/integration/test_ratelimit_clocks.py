"""Clocks that start again or are set back give nobody more than a share, and lock nobody out."""

from pathlib import Path

import psycopg
import pytest

from holdfast.backends.sqlite import SqliteSync
from holdfast.ratelimit import TokenBucketLimiter
from holdfast.ratelimit import postgres as store
from holdfast.testing.clock import VirtualClock
from tests.integration import time_travel


def test_a_bucket_of_before_a_reboot_is_full(tmp_path: Path) -> None:
    """SQLite's stamps are monotonic: one from the future was written before a reboot."""
    path = str(tmp_path / "holdfast.db")
    with SqliteSync(path, clock=VirtualClock(start=5000.0)) as backend:
        assert TokenBucketLimiter(backend, capacity=10, refill_rate=0.01).is_allowed("key", cost=10)
    clock = VirtualClock(start=20.0)
    with SqliteSync(path, clock=clock) as backend:
        limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=0.01)
        assert limiter.acquire("key", cost=4).remaining == 6
        clock.advance(100)
        assert limiter.acquire("key", cost=4).remaining == pytest.approx(3)


def test_a_postgres_clock_that_was_set_back_locks_nobody_out(postgres_url: str, request: pytest.FixtureRequest) -> None:
    """The bucket goes on from its tokens and the new time; it neither fills at once nor waits for an hour."""
    limits = {"capacity": 10.0, "refill_rate": 0.01, "cost": 1.0}
    with time_travel.world("postgres", request) as real, psycopg.connect(postgres_url, autocommit=True) as other:
        real.ask(store.take("name", "key", **limits | {"cost": 5.0}))
        other.execute("update holdfast_token_bucket set updated_at = updated_at + interval '1 hour'")
        assert real.ask(store.take("name", "key", **limits)) == (True, pytest.approx(4))
        real.advance(100.0)
        assert real.ask(store.take("name", "key", **limits)) == (True, pytest.approx(4, abs=0.1))


def test_a_redis_clock_that_was_set_back_locks_nobody_out(redis_url: str, request: pytest.FixtureRequest) -> None:
    """Whoever is refused and waits as long as told is served, although the bucket was last updated in the future."""
    with time_travel.world("redis", request) as real:
        limiter = TokenBucketLimiter(real.backend, capacity=10, refill_rate=0.01)
        assert limiter.is_allowed("key", cost=10)
        real.advance(-3600.0)
        refused = limiter.acquire("key")
        assert not refused
        assert refused.retry_after == pytest.approx(100, abs=1)
        real.advance(refused.retry_after)
        assert limiter.is_allowed("key")
        assert not limiter.is_allowed("key")


def test_a_redis_bucket_from_the_future_does_not_outlive_its_filling(
    redis_url: str, request: pytest.FixtureRequest
) -> None:
    """A refusal that moves it to the new time also lets it end when it would be full again."""
    with time_travel.world("redis", request) as real:
        limiter = TokenBucketLimiter(real.backend, capacity=10, refill_rate=1)
        assert limiter.is_allowed("key", cost=10)
        real.advance(-3600.0)
        assert not limiter.is_allowed("key", cost=10)
        real.advance(11.0)
        assert real.stored("token_bucket") == 0


def test_a_postgres_stamp_a_moment_ahead_is_not_counted_twice(
    postgres_url: str, request: pytest.FixtureRequest
) -> None:
    """Who asked before an earlier turn but waited for it must not turn the time back."""
    limits = {"capacity": 10.0, "refill_rate": 0.01, "cost": 1.0}
    with time_travel.world("postgres", request) as real, psycopg.connect(postgres_url, autocommit=True) as other:
        real.ask(store.take("name", "key", **limits | {"cost": 5.0}))
        ahead = "update holdfast_token_bucket set updated_at = updated_at + interval '5 s' returning updated_at"
        stamp = other.execute(ahead).fetchall()
        assert real.ask(store.take("name", "key", **limits)) == (True, pytest.approx(4))
        assert other.execute("select updated_at from holdfast_token_bucket").fetchall() == stamp
