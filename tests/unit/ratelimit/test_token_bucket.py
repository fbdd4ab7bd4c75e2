"""The token bucket's arithmetic and the limiter around it, in virtual time."""

import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast import signals
from holdfast.backends.memory import Call, MemoryAsync, MemorySync, State
from holdfast.errors import BackendUnavailable, ConfigurationError, InvalidKey, OutcomeUnknown, RateLimited
from holdfast.ratelimit import Decision, LimiterDegraded, LimitRefused, TokenBucketLimiter, memory
from holdfast.ratelimit.token_bucket import LOCAL_BUCKETS, PRUNE_EVERY
from holdfast.testing.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=1_000_000.1)


@pytest.fixture
def backend(clock: VirtualClock) -> MemorySync:
    return MemorySync(clock=clock)


# -- Arithmetic ------------------------------------------------------------------------------------------------------


def test_ninety_a_minute_are_ninety_a_minute(backend: MemorySync, clock: VirtualClock) -> None:
    """Drained and polled every 50 ms for 20 s, a bucket of 90 per 60 s serves 30: no fraction is lost."""
    limiter = TokenBucketLimiter(backend, capacity=90, refill_rate=90 / 60)
    assert limiter.is_allowed("key", cost=90)
    served = 0
    for _ in range(20 * 20):
        clock.advance(0.05)
        served += limiter.is_allowed("key")
    assert served == 30


@pytest.mark.parametrize("rate", [1 / 3, 0.7, 10, 1e3, 1e5])
def test_waiting_exactly_as_long_as_told_is_enough(backend: MemorySync, clock: VirtualClock, rate: float) -> None:
    """A thousand times refused and waited: a thousand times served, and no rounding error adds up."""
    limiter = TokenBucketLimiter(backend, capacity=1, refill_rate=rate)
    began = clock.monotonic()
    assert limiter.is_allowed("key")
    for _ in range(1000):
        refused = limiter.acquire("key")
        assert not refused.allowed
        clock.advance(refused.retry_after)
        assert limiter.is_allowed("key")
    assert clock.monotonic() - began == pytest.approx(1000 / rate, rel=1e-6, abs=1e-6)


def test_a_clock_that_stood_still_or_went_back_refills_nothing() -> None:
    """Elapsed time is never negative."""
    assert memory.refill(2.0, 0.0, rate=10, capacity=5) == 2.0
    assert memory.refill(2.0, -3600.0, rate=10, capacity=5) == 2.0


def test_a_full_bucket_takes_no_memory(backend: MemorySync, clock: VirtualClock) -> None:
    """Buckets of users who have not come back are dropped as others come."""
    limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=1)
    for number in range(1000):
        limiter.is_allowed(f"user:{number}")
        clock.advance(0.5)
    assert len(backend.state.table("token_buckets")) < 10


def test_a_flood_of_keys_is_bounded(clock: VirtualClock) -> None:
    """A table full of live buckets forgets the one written longest ago, and goes on."""
    backend = MemorySync(State(clock=clock, max_entries=100), clock=clock)
    limiter = TokenBucketLimiter(backend, capacity=1, refill_rate=0.001)
    assert all(limiter.is_allowed(f"user:{number}") for number in range(1000))
    assert len(backend.state.table("token_buckets")) == 100
    assert not limiter.is_allowed("user:999")


def test_tiny_and_huge_numbers_stay_finite(backend: MemorySync) -> None:
    """The whole legal range works."""
    for capacity, rate in [(1e12, 1e12), (1e-9, 1e12), (1e12, 1e5), (1e-9, 1e-15)]:
        limiter = TokenBucketLimiter(backend, capacity=capacity, refill_rate=rate, name=f"{capacity}/{rate}")
        decision = limiter.acquire("key", cost=capacity / 2)
        assert decision.allowed
        assert math.isfinite(decision.reset_after)


# -- Answers ---------------------------------------------------------------------------------------------------------


def test_a_decision_is_true_when_allowed(backend: MemorySync) -> None:
    """`if limiter.acquire(key):` reads as it works."""
    limiter = TokenBucketLimiter(backend, capacity=1, refill_rate=0.5)
    first, second = limiter.acquire("key"), limiter.acquire("key")
    assert first
    assert not second
    assert first == Decision(allowed=True, limit=1, remaining=0, retry_after=0, reset_after=2)
    assert second == Decision(allowed=False, limit=1, remaining=0, retry_after=2, reset_after=2)


def test_a_decorated_function_runs_or_raises(backend: MemorySync) -> None:
    """Each call is an ask; a refused one does not reach the function."""
    calls: list[int] = []
    limiter = TokenBucketLimiter(backend, capacity=2, refill_rate=0.5, name="exports")

    @limiter.limited("export", cost=2)
    def export(number: int) -> int:
        """Export."""
        calls.append(number)
        return number

    assert export(1) == 1
    with pytest.raises(RateLimited, match="exports") as caught:
        export(2)
    assert calls == [1]
    assert caught.value.retry_after == 4
    assert caught.value.facts == {
        "name": "exports",
        "key": "export",
        "limit": 2,
        "remaining": 0,
        "retry_after": 4,
        "reset_after": 4,
    }
    assert pickle.loads(pickle.dumps(caught.value)).facts == caught.value.facts
    assert export.__doc__ == "Export."


async def test_a_decorated_coroutine_runs_or_raises(clock: VirtualClock) -> None:
    """The same in asyncio."""
    limiter = TokenBucketLimiter(MemoryAsync(clock=clock), capacity=1, refill_rate=0.5)

    @limiter.limited("export")
    async def export() -> int:
        return 7

    assert await export() == 7
    with pytest.raises(RateLimited):
        await export()


async def test_the_wrong_spelling_names_the_right_one(backend: MemorySync, clock: VirtualClock) -> None:
    """Blocks and decorators have the colour of the client."""
    blocking: Any = TokenBucketLimiter(backend, capacity=1, refill_rate=1).limited("key")
    awaited: Any = TokenBucketLimiter(MemoryAsync(clock=clock), capacity=1, refill_rate=1).limited("key")
    with pytest.raises(ConfigurationError, match="`async with"), awaited:
        pass
    with pytest.raises(ConfigurationError, match="`with"):
        async with blocking:
            pass
    with pytest.raises(ConfigurationError, match="`async def`"):
        awaited(lambda: None)
    with pytest.raises(ConfigurationError, match="`def`"):
        blocking(awaited.__aenter__.__func__)


# -- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"capacity": 0}, "capacity=0"),
        ({"capacity": -1}, "capacity=-1"),
        ({"capacity": math.nan}, "capacity=nan"),
        ({"capacity": math.inf}, "capacity=inf"),
        ({"capacity": True}, "capacity=True"),
        ({"capacity": "10"}, "capacity='10'"),
        ({"capacity": 1e13}, "capacity=1"),
        ({"refill_rate": 0}, "refill_rate=0"),
        ({"refill_rate": -0.1}, "refill_rate=-0.1"),
        ({"refill_rate": 1e-9}, "seconds to fill"),
        ({"timeout": 0}, "timeout=0"),
        ({"on_error": "maybe"}, "on_error='maybe'.*open, closed, local"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_a_wrong_argument_is_named(backend: MemorySync, options: dict[str, Any], named: str) -> None:
    """The message says which parameter, which value, and what is legal, before anything was done."""
    with pytest.raises(ConfigurationError, match=named):
        TokenBucketLimiter(backend, **{"capacity": 10, "refill_rate": 1, **options})


@pytest.mark.parametrize("cost", [0, -1, math.nan, math.inf, 11, "1"])
def test_a_wrong_cost_is_named(backend: MemorySync, cost: Any) -> None:
    """It costs nothing, and waiting would not help."""
    limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=1)
    for ask in (limiter.acquire, limiter.is_allowed, limiter.limited):
        with pytest.raises(ConfigurationError, match="cost="):
            ask("key", cost=cost)
    assert limiter.acquire("key").remaining == 9


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "a\nb", "\ud800", 7])
def test_a_wrong_key_is_refused(backend: MemorySync, key: Any) -> None:
    """What no backend could store is refused by all."""
    limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=1)
    for ask in (limiter.acquire, limiter.is_allowed, limiter.limited):
        with pytest.raises(InvalidKey, match="key"):
            ask(key)


# -- Without a store -------------------------------------------------------------------------------------------------


class Away(MemorySync):
    """A store that fails as told."""

    error: type[BackendUnavailable | OutcomeUnknown] | None = BackendUnavailable

    def call(self, request: Call[Any]) -> Any:
        if self.error is None:
            return super().call(request)
        raise self.error("away", backend="memory", operation="take")


@pytest.fixture
def heard() -> Iterator[list[signals.Signal]]:
    records: list[signals.Signal] = []
    unsubscribe = signals.subscribe(signals.Signal, records.append)
    yield records
    unsubscribe()


@pytest.mark.parametrize("error", [BackendUnavailable, OutcomeUnknown])
def test_open_allows_and_says_so(heard: list[signals.Signal], error: Any) -> None:
    """The default: an outage of the store is none of the service."""
    backend = Away()
    backend.error = error
    decision = TokenBucketLimiter(backend, capacity=1, refill_rate=1).acquire("key")
    assert (decision.allowed, decision.degraded, decision.retry_after) == (True, True, 0.0)
    assert [type(record) for record in heard] == [LimiterDegraded]
    assert isinstance(heard[0].error, error)  # type: ignore[attr-defined]


def test_closed_refuses_and_says_when_to_try_again(heard: list[signals.Signal]) -> None:
    """Better nobody than one too many."""
    limiter = TokenBucketLimiter(Away(), capacity=1, refill_rate=1, on_error="closed")
    decision = limiter.acquire("key")
    assert (decision.allowed, decision.degraded) == (False, True)
    assert decision.retry_after > 0
    assert [type(record) for record in heard] == [LimiterDegraded, LimitRefused]
    with pytest.raises(RateLimited):
        limiter.limited("key").__enter__()


def test_local_counts_here(clock: VirtualClock) -> None:
    """The whole limit holds in this process, for a bounded number of keys, until the store is back."""
    backend = Away(clock=clock, timeout=0.25)  # the limiter's own, so that it takes this object and no twin
    limiter = TokenBucketLimiter(backend, capacity=2, refill_rate=0.5, on_error="local")
    decisions = [limiter.acquire("key") for _ in range(3)]
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert [decision.degraded for decision in decisions] == [True] * 3
    assert decisions[-1].retry_after == 2
    for number in range(LOCAL_BUCKETS + 10):
        limiter.is_allowed(f"user:{number}")
    assert limiter._local is not None
    assert len(limiter._local.table("token_buckets")) == LOCAL_BUCKETS
    backend.error = None
    assert not limiter.acquire("key").degraded


# -- Cleaning up -----------------------------------------------------------------------------------------------------


class Rows:
    """A carrier that keeps rows: prunes when asked, and may fail at it."""

    def __init__(self) -> None:
        self.prunes = 0

    def take(self, name: str, key: str, **limits: float) -> Call[tuple[bool, float]]:
        return memory.take(name, key, **limits)

    def prune(self) -> Call[None]:
        return Call(self._prune)

    def _prune(self, _: State) -> None:
        self.prunes += 1
        raise BackendUnavailable("away", backend="memory", operation="prune")


def test_rows_are_pruned_now_and_then(backend: MemorySync) -> None:
    """One ask in so many cleans up as well, and its failure is nobody's business."""
    rows = Rows()
    backend.carriers = {"ratelimit": rows}
    limiter = TokenBucketLimiter(backend, capacity=1e6, refill_rate=1)
    assert all(limiter.is_allowed("key") for _ in range(3 * PRUNE_EVERY))
    assert rows.prunes == 3


class Slow(MemorySync):
    """A store that lets time pass before each answer, and gives up at its deadline."""

    delay = 0.0

    def call(self, request: Call[Any]) -> Any:
        self.clock.advance(min(self.delay, self.timeout))  # type: ignore[attr-defined]
        if self.delay > self.timeout:
            raise BackendUnavailable("too late", backend="memory", operation="call")
        return super().call(request)


@pytest.mark.parametrize(("delay", "took", "prunes"), [(0.05, 0.1, 1), (0.2, 0.2, 0), (1.0, 0.25, 0)])
def test_cleaning_up_keeps_the_deadline_of_the_ask(clock: VirtualClock, delay: float, took: float, prunes: int) -> None:
    """A store that failed is not asked again, and what is left of the time must suffice."""
    backend, rows = Slow(clock=clock, timeout=5.0), Rows()
    backend.carriers, backend.delay = {"ratelimit": rows}, delay
    limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=1, timeout=0.25)
    limiter._asks = itertools.count(0)
    began = clock.monotonic()
    assert limiter.is_allowed("key")
    assert clock.monotonic() - began == pytest.approx(took)
    assert rows.prunes == prunes


def test_cleaning_up_is_given_what_is_left_of_the_time(clock: VirtualClock) -> None:
    """A prune that hangs ends with the deadline of the ask, and the ask is still answered."""
    backend, rows = Slow(clock=clock, timeout=5.0), Rows()
    backend.carriers, backend.delay = {"ratelimit": rows}, 0.1

    class Hanging(Call[None]):
        def carry(self, driver: Any) -> Any:
            driver.delay = 10.0
            return driver.call(self)

    rows.prune = lambda: Hanging(rows._prune)  # type: ignore[method-assign]
    limiter = TokenBucketLimiter(backend, capacity=10, refill_rate=1, timeout=0.25)
    limiter._asks = itertools.count(0)
    began = clock.monotonic()
    assert limiter.is_allowed("key")
    assert clock.monotonic() - began == pytest.approx(0.25)
