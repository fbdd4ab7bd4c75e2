"""`TokenBucketLimiter`: bursts up to `capacity`, and `refill_rate` per second in the long run.

A bucket holds up to `capacity` tokens and gains `refill_rate` of them each second. An ask takes its cost
or, when there are not enough, nothing. So in any `t` seconds at most `capacity + refill_rate * t` tokens
are granted, however many processes ask: each ask is one atomic step on the store, by the store's clock.

`memory.py` is the readable model of that step; `redis.py`, `sqlite.py` and `postgres.py` do the same.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Generic, Protocol, get_args, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt, carrier
from holdfast.backends.memory import State
from holdfast.drivers import AsyncDriver
from holdfast.errors import BackendError, ConfigurationError, HoldfastError
from holdfast.operations import Async, C, Pattern, Request, Steps, Sync, Within, operation
from holdfast.ratelimit import memory
from holdfast.ratelimit.decision import Decision, LimiterDegraded, LimitRefused, OnError
from holdfast.ratelimit.limited import Limited

__all__ = ["BucketStore", "TokenBucketLimiter"]

DEFAULT_TIMEOUT = 0.25
# Bounds within which a double still tells single tokens and every store can write down the dates.
MOST_TOKENS = 1e12
LONGEST_FILL = 366 * 86_400.0
# What a client is told to wait when nobody counted: a store is seldom back sooner.
DEGRADED_RETRY = 1.0
# Buckets remembered in this process while the store is away (on_error="local").
LOCAL_BUCKETS = 10_000
# One ask in so many also removes rows of buckets that are full again, where the store keeps rows.
PRUNE_EVERY = 1024
# It does so only while at least this share of its time is left: a statement that is given up costs its connection.
PRUNE_WITHIN = 0.5


class BucketStore(Protocol):
    """What a carrier of token buckets provides, as functions that return requests."""

    def take(
        self, name: str, key: str, *, capacity: float, refill_rate: float, cost: float
    ) -> Request[tuple[bool, float]]:
        """Take `cost` tokens if they are there: whether they were, and the tokens left."""
        ...

    def prune(self) -> Request[Any] | None:
        """Remove buckets that are full again; None where the backend does it by itself."""
        ...


class TokenBucketLimiter(Pattern[C], Generic[C]):
    """A rate limit with bursts, shared by everybody who uses the same store, name and key.

        limiter = TokenBucketLimiter(client, capacity=100, refill_rate=10)
        if limiter.is_allowed(f"user:{user_id}"):          # await, for an asyncio client
            handle_request()

    Each key has a bucket of its own. A limiter object may be shared by threads and tasks.

    Args:
        client: a client or backend; its colour decides whether operations block or are awaited.
        capacity: tokens in a full bucket, which is the greatest burst, > 0.
        refill_rate: tokens per second, > 0. `capacity / refill_rate` is at most 366 days.
        name: what is limited, 1 to 255 printable characters. Limiters with different names never share a
            bucket; limiters with the same name share them all, so give those the same limits.
        timeout: seconds to wait for the store's answer, > 0 and at most 24 days; then `on_error` decides.
        on_error: what to answer when the store does not. "open" allows: a limiter guards a service and
            must not become the outage itself, hence the default. "closed" refuses: for what must never
            be exceeded (money, passwords). "local" counts in this process meanwhile, so that each
            process allows up to the whole limit.

    Raises:
        ConfigurationError: an argument is not legal.
    """

    @overload
    def __init__(
        self: TokenBucketLimiter[Async],
        client: AsyncClient,
        *,
        capacity: float,
        refill_rate: float,
        name: str = ...,
        timeout: float = ...,
        on_error: OnError = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: TokenBucketLimiter[Sync],
        client: SyncClient,
        *,
        capacity: float,
        refill_rate: float,
        name: str = ...,
        timeout: float = ...,
        on_error: OnError = ...,
    ) -> None: ...
    def __init__(
        self,
        client: Any,
        *,
        capacity: float,
        refill_rate: float,
        name: str = "default",
        timeout: float = DEFAULT_TIMEOUT,
        on_error: OnError = "open",
    ) -> None:
        self.name: str = checks.key("name", name)
        self.capacity: float = checks.between("capacity", checks.positive("capacity", capacity), 0, MOST_TOKENS)
        self.refill_rate: float = checks.between(
            "refill_rate", checks.positive("refill_rate", refill_rate), 0, MOST_TOKENS
        )
        checks.between("capacity / refill_rate (seconds to fill)", self.capacity / self.refill_rate, 0, LONGEST_FILL)
        self.timeout: float = checks.timeout("timeout", timeout)
        self.on_error = _known("on_error", on_error)
        self._driver = backend = adopt(client, timeout=timeout)
        self._store: BucketStore = carrier(__package__, backend)
        self._local = State(clock=backend.clock, max_entries=LOCAL_BUCKETS) if on_error == "local" else None
        self._prune = self._store.prune()
        self._asks = itertools.count(backend.random.randrange(PRUNE_EVERY))
        self.is_async: bool = isinstance(backend, AsyncDriver)

    @operation
    def acquire(self, key: str, *, cost: float = 1) -> Steps[Decision]:
        """Take `cost` tokens from the bucket of `key`, or nothing. One round trip; never waits for tokens.

        Args:
            key: whose bucket, 1 to 255 printable characters.
            cost: tokens to take, 0 < cost <= capacity.

        Raises:
            InvalidKey: the key is not legal.
            ConfigurationError: the cost is not legal, so waiting would never help.
        """
        return (yield from self._deciding(key, cost))

    @operation
    def is_allowed(self, key: str, *, cost: float = 1) -> Steps[bool]:
        """Tell whether to go on: `acquire` for those who need no more than that."""
        return (yield from self._deciding(key, cost)).allowed

    def limited(self, key: str, *, cost: float = 1) -> Limited[C]:
        """Return a `with` block, or a decorator, that raises `RateLimited` when refused."""
        return Limited(self, checks.key("key", key), self._legal_cost(cost))

    def _deciding(self, key: str, cost: float) -> Steps[Decision]:
        key, cost = checks.key("key", key), self._legal_cost(cost)
        prunes = self._prune is not None and next(self._asks) % PRUNE_EVERY == 0
        deadline = self._driver.clock.monotonic() + self.timeout if prunes else 0.0
        try:
            allowed, tokens = yield from self._store.take(
                self.name, key, capacity=self.capacity, refill_rate=self.refill_rate, cost=cost
            )
        except BackendError as error:
            decision = self._without_store(key, cost, error)
        else:
            decision = self._decision(allowed, tokens, cost, degraded=False)
            if prunes:
                yield from self._pruning(deadline - self._driver.clock.monotonic())
        if not decision.allowed and signals.subscribers:
            signals.emit(LimitRefused(name=self.name, key=key, cost=cost, retry_after=decision.retry_after))
        return decision

    def _pruning(self, left: float) -> Steps[None]:
        if self._prune is not None and left >= self.timeout * PRUNE_WITHIN:
            with contextlib.suppress(HoldfastError):
                yield from Within(self._prune, left)

    def _decision(self, allowed: bool, tokens: float, cost: float, *, degraded: bool) -> Decision:  # noqa: FBT001
        return Decision(
            allowed=allowed,
            limit=self.capacity,
            remaining=max(0.0, tokens),
            retry_after=0.0 if allowed else (cost - tokens) / self.refill_rate,
            reset_after=(self.capacity - tokens) / self.refill_rate,
            degraded=degraded,
        )

    def _without_store(self, key: str, cost: float, error: BackendError) -> Decision:
        if signals.subscribers:
            signals.emit(LimiterDegraded(name=self.name, key=key, on_error=self.on_error, error=error))
        if self._local is not None:
            call = memory.take(self.name, key, capacity=self.capacity, refill_rate=self.refill_rate, cost=cost)
            return self._decision(*self._local.call(call.function, call.args), cost, degraded=True)
        allowed = self.on_error == "open"
        return Decision(
            allowed=allowed,
            limit=self.capacity,
            remaining=0.0,
            retry_after=0.0 if allowed else DEGRADED_RETRY,
            reset_after=0.0,
            degraded=True,
        )

    def _legal_cost(self, cost: float) -> float:
        legal = checks.positive("cost", cost)
        if legal > self.capacity:
            message = f"cost={cost!r} is not legal: no bucket ever holds more than capacity={self.capacity!r}"
            raise ConfigurationError(message, parameter="cost")
        return legal

    def __repr__(self) -> str:
        limits = f"capacity={self.capacity:g} refill_rate={self.refill_rate:g}"
        return f"<{type(self).__name__} {self.name!r} {limits} on {self._driver.place}>"


def _known(parameter: str, on_error: OnError) -> OnError:
    if on_error not in get_args(OnError):
        message = f"{parameter}={checks.shown(on_error)} is not legal: give one of {', '.join(get_args(OnError))}"
        raise ConfigurationError(message, parameter=parameter)
    return on_error
