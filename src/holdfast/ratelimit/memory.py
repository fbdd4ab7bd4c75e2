"""Token buckets in memory: the model that the Lua and SQL carriers are compared with. Read this first."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.backends.memory import Call, State

__all__ = ["prune", "refill", "take"]

# Clocks tell microseconds. Whoever waits for exactly `retry_after` and is a rounding error too early is
# on time. What is granted early is kept as a debt, so the average rate stays exact.
TICK = 1e-6


class _Bucket(NamedTuple):
    tokens: float
    updated: float


def take(name: str, key: str, *, capacity: float, refill_rate: float, cost: float) -> Call[tuple[bool, float]]:
    """Take `cost` tokens if they are there: whether they were, and the tokens left."""
    # No key holds a control character, so no two pairs make the same entry.
    return Call(_take, f"{name}\n{key}", capacity, refill_rate, cost)


def prune() -> Call[None] | None:
    """Return None: the table drops by itself the buckets that are full again."""
    return None


def refill(tokens: float, elapsed: float, *, rate: float, capacity: float) -> float:
    """Return the tokens in a bucket after `elapsed` seconds.

    Fractions are kept: rounding here would starve slow buckets.

    Args:
        tokens: tokens held at the last update, <= capacity.
        elapsed: seconds since then; a negative value (clock stepped back) counts as 0.
        rate: tokens added per second, > 0.
        capacity: most tokens the bucket can hold, > 0.

    Source: RFC 2697, section 3 (the single rate marker's token counts).

    >>> refill(2.0, 0.5, rate=10.0, capacity=5.0)
    5.0
    """
    return min(capacity, tokens + max(0.0, elapsed) * rate)


def _take(state: State, entry: str, capacity: float, refill_rate: float, cost: float) -> tuple[bool, float]:
    # Full of live buckets, the table forgets the one that was written longest ago: it had most time to fill.
    buckets = state.table("token_buckets", evict=True)
    bucket: _Bucket | None = buckets.get(entry)
    tokens = capacity
    if bucket is not None:
        tokens = refill(bucket.tokens, state.now - bucket.updated, rate=refill_rate, capacity=capacity)
    if tokens + refill_rate * TICK < cost:
        return False, tokens
    tokens -= cost
    # A full bucket needs no memory: the entry ends when the bucket would be full again.
    buckets.put(entry, _Bucket(tokens, state.now), expires_at=state.now + (capacity - tokens) / refill_rate)
    return True, tokens
