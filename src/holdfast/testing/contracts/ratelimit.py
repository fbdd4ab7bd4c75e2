"""What every backend must do for token buckets."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from holdfast import signals
from holdfast.backends import AsyncBackend, Backend
from holdfast.errors import ConfigurationError, RateLimited
from holdfast.ratelimit import LimitRefused, TokenBucketLimiter
from holdfast.testing.contracts._either import settle, together

__all__ = ["TokenBucketContract"]

# Tokens per second. So slow that nothing is refilled while a busy machine runs a test, but never quite
# nothing: tests compare with `LITTLE` to spare.
SLOW = 0.001
LITTLE = 0.1
PATIENT = 10.0


class TokenBucketContract:
    """At most `capacity + refill_rate * t` tokens in any `t` seconds, and not fewer for who asks in time."""

    async def test_a_full_bucket_allows_a_burst_of_its_capacity(self, backend: Backend[Any]) -> None:
        """The first `capacity` asks are allowed, the next is not, and each answer counts down."""
        limiter = slow(backend, capacity=3)
        decisions = [await settle(limiter.acquire("burst")) for _ in range(4)]
        assert [decision.allowed for decision in decisions] == [True, True, True, False]
        assert [round(decision.remaining) for decision in decisions] == [2, 1, 0, 0]
        assert all(decision.limit == 3 and not decision.degraded for decision in decisions)

    async def test_a_refusal_says_when_to_come_back(self, backend: Backend[Any]) -> None:
        """`retry_after` is the time that the missing tokens take, `reset_after` that of a full bucket."""
        limiter = slow(backend, capacity=10)
        first = await settle(limiter.acquire("when", cost=8))
        refused = await settle(limiter.acquire("when", cost=5))
        assert first.retry_after == 0.0
        assert abs(first.reset_after - 8 / SLOW) < LITTLE / SLOW
        assert abs(refused.retry_after - 3 / SLOW) < LITTLE / SLOW
        assert abs(refused.reset_after - 8 / SLOW) < LITTLE / SLOW

    async def test_who_comes_back_after_retry_after_is_served(self, backend: Backend[Any]) -> None:
        """Nobody is refused twice for having waited exactly as long as told."""
        limiter = TokenBucketLimiter(backend, capacity=1, refill_rate=20, timeout=PATIENT)
        for _ in range(6):
            decision = await settle(limiter.acquire("back"))
            if not decision.allowed:
                await asyncio.sleep(decision.retry_after)
                assert await settle(limiter.is_allowed("back"))

    async def test_a_crowd_gets_exactly_the_capacity(self, backend: Backend[Any]) -> None:
        """When 200 ask at once for 50 tokens, 50 are served."""
        limiter = slow(backend, capacity=50)
        answers = await together(backend, 200, lambda _: limiter.is_allowed("crowd"))
        assert [answer for answer in answers if not isinstance(answer, bool)] == []
        assert sum(answers) == 50

    async def test_a_crowd_on_a_moving_bucket_gets_no_more_than_its_rate(self, backend: Backend[Any]) -> None:
        """Asks that wait for each other count no moment twice."""
        limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=100, timeout=PATIENT)
        began = time.monotonic()
        served = 0
        while time.monotonic() - began < 0.5:
            served += sum(await together(backend, 32, lambda _: limiter.is_allowed("moving")))
        elapsed = time.monotonic() - began
        assert served <= 10 + 100 * elapsed

    async def test_refused_asks_cost_nothing(self, backend: Backend[Any]) -> None:
        """After a refused ask for much, an ask for what is there is served."""
        limiter = slow(backend, capacity=100)
        assert await settle(limiter.is_allowed("weights", cost=60))
        for _ in range(5):
            assert not await settle(limiter.is_allowed("weights", cost=60))
        assert await settle(limiter.is_allowed("weights", cost=40))
        assert not await settle(limiter.is_allowed("weights"))

    async def test_fractions_are_kept(self, backend: Backend[Any]) -> None:
        """Costs, capacities and what is left need not be whole."""
        limiter = slow(backend, capacity=1.5)
        decisions = [await settle(limiter.acquire("fractions", cost=0.4)) for _ in range(4)]
        assert [decision.allowed for decision in decisions] == [True, True, True, False]
        assert 0.3 <= decisions[-1].remaining < 0.3 + LITTLE

    async def test_the_bucket_refills_at_its_rate(self, backend: Backend[Any]) -> None:
        """A drained bucket that is polled often serves what its rate says, and loses no fraction of it."""
        rate = 45.0
        limiter = TokenBucketLimiter(backend, capacity=rate, refill_rate=rate, timeout=PATIENT)
        before = time.monotonic()
        await settle(limiter.acquire("rate", cost=rate))
        after = time.monotonic()
        served = 0
        while time.monotonic() - after < 1.0:
            served += await settle(limiter.is_allowed("rate"))
            await asyncio.sleep(0.002)
        while await settle(limiter.is_allowed("rate")):
            served += 1
        assert served <= (time.monotonic() - before) * rate
        assert served >= 1.0 * rate - 1

    async def test_a_bucket_is_never_more_than_full(self, backend: Backend[Any]) -> None:
        """Whoever has not asked for long has one capacity, not more."""
        limiter = TokenBucketLimiter(backend, capacity=2, refill_rate=20, timeout=PATIENT)
        await settle(limiter.is_allowed("full"))
        await asyncio.sleep(0.3)
        decision = await settle(limiter.acquire("full", cost=2))
        assert decision.allowed
        assert decision.remaining == 0

    async def test_keys_do_not_touch_each_other(self, backend: Backend[Any]) -> None:
        """Every legal key has a bucket of its own, however hostile."""
        limiter = slow(backend, capacity=1)
        hostile = ["a", "A", "a:b", "{a}", "}{", "a%3Ab", "*", "'; drop table x; --", "é", "e\u0301", " ", "x" * 255]
        assert [await settle(limiter.is_allowed(key)) for key in hostile] == [True] * len(hostile)
        assert [await settle(limiter.is_allowed(key)) for key in hostile] == [False] * len(hostile)

    async def test_names_do_not_touch_each_other(self, backend: Backend[Any]) -> None:
        """Limiters of different names share nothing; those of one name share their buckets."""
        pairs = [("a", "b:c"), ("a:b", "c"), ("a:b:c", "c"), ("other", "b:c")]
        for name, key in pairs:
            assert await settle(slow(backend, capacity=1, name=name).is_allowed(key))
        for name, key in pairs:
            assert not await settle(slow(backend, capacity=1, name=name).is_allowed(key))

    async def test_limits_may_change(self, backend: Backend[Any]) -> None:
        """A smaller capacity holds at once; a greater one is filled by time, not by the change."""
        await settle(slow(backend, capacity=100).acquire("change"))
        assert round((await settle(slow(backend, capacity=10).acquire("change"))).remaining) == 9
        assert round((await settle(slow(backend, capacity=100).acquire("change"))).remaining) == 8

    async def test_a_cost_that_never_fits_is_an_error(self, backend: Backend[Any]) -> None:
        """More than the capacity can never be granted, so waiting for it would be a bug."""
        limiter = slow(backend, capacity=5)
        error = await error_of(ConfigurationError, lambda: limiter.acquire("never", cost=6))
        assert "cost=6" in str(error)
        assert "5" in str(error)

    async def test_a_block_is_entered_or_raises(self, backend: Backend[Any]) -> None:
        """`limited` raises `RateLimited`, with all its facts, where no decision can be handed back."""
        limiter = slow(backend, capacity=1, name="api")
        block: Any = limiter.limited("block")
        assert (await entered(backend, block)).allowed
        error = await error_of(RateLimited, lambda: entered(backend, block))
        assert error.__dict__["key"] == "block"
        assert error.__dict__["name"] == "api"
        assert error.retry_after is not None
        assert error.retry_after > 0

    async def test_a_refusal_is_told(self, backend: Backend[Any]) -> None:
        """Subscribers hear of each refusal, and of nothing else."""
        heard: list[LimitRefused] = []
        limiter = slow(backend, capacity=1, name="heard")
        unsubscribe = signals.subscribe(LimitRefused, heard.append)
        try:
            for _ in range(2):
                await settle(limiter.acquire("user:7"))
        finally:
            unsubscribe()
        assert [(record.name, record.key, record.cost) for record in heard] == [("heard", "user:7", 1)]


def slow(backend: Backend[Any], *, capacity: float, name: str = "default") -> Any:
    """Return a limiter whose buckets stand still for a test."""
    return TokenBucketLimiter(backend, capacity=capacity, refill_rate=SLOW, name=name, timeout=PATIENT)


async def entered(backend: Backend[Any], block: Any) -> Any:
    """Return what `block` hands to its body."""
    if isinstance(backend, AsyncBackend):
        async with block as decision:
            return decision
    with block as decision:
        return decision


async def error_of(kind: type[Exception], ask: Any) -> Any:
    """Return the error of `kind` that `ask()` must raise."""
    try:
        await settle(ask())
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
