"""What a limiter answers, and what it tells to subscribers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from holdfast import signals

__all__ = ["Decision", "LimitRefused", "LimiterDegraded", "OnError"]

OnError = Literal["open", "closed", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one ask.

    It is true exactly when the ask was allowed, because `if limiter.acquire(key):` is what people write,
    and a refusal that counts as true would be no limit at all.

    Attributes:
        allowed: whether to go on. A refused ask has taken nothing.
        limit: tokens that a full bucket holds.
        remaining: tokens left after this ask, >= 0, fractions included.
        retry_after: seconds until the same ask can be allowed; 0.0 when it was.
        reset_after: seconds until the bucket is full again if nobody asks.
        degraded: the store did not answer in time, and the limiter's `on_error` decided. With "open" and
            "closed" nobody counted: `remaining` and `reset_after` are then 0.0 and say nothing.
    """

    allowed: bool
    limit: float
    remaining: float
    retry_after: float
    reset_after: float
    degraded: bool = False

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRefused(signals.Signal):
    """An ask was refused.

    `name` is one of few and may label a metric. `key` comes from your users and must not: there is no
    bound on how many there are.
    """

    name: str
    key: str
    cost: float
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterDegraded(signals.Signal):
    """The store did not answer in time, so `on_error` decided about this ask."""

    name: str
    key: str
    on_error: OnError
    error: BaseException
