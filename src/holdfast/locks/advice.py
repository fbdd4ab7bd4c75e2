"""Which TTL fits: told by how long blocks really held their lock.

A TTL is how long others wait for a holder that died. Without a heartbeat it must cover the longest block
as well; with one, a block that is long compared with its TTL lives from renewals that may fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast import checks, signals

__all__ = ["BlockRanLong", "suggest_ttl"]

QUANTILE = 0.99
FEWEST = 20
SHORTEST = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRanLong(signals.Signal):
    """A block held its lock for more than half of its TTL."""

    name: str
    token: int
    seconds: float
    ttl: float


def suggest_ttl(durations: Iterable[float], *, factor: float = 2.5) -> float | None:
    """Return the TTL that fits blocks of these `durations`, in seconds; None when there are fewer than 20.

    It is `factor` times their 99th percentile, at least 1 s, rounded up to two digits.

    Args:
        durations: how long blocks held the lock, in seconds, >= 0.
        factor: room for a slower day, 1 to 100. Redisson's and Redlock's users settle at 2 to 3.

    >>> suggest_ttl([0.8] * 99 + [4.0])
    2.0
    >>> suggest_ttl([0.8] * 95 + [4.0] * 5)
    10.0
    """
    checks.between("factor", factor, 1, 100)
    ordered = sorted(durations)
    if len(ordered) < FEWEST:
        return None
    # Nearest rank: the smallest value that at least 99 of 100 do not exceed.
    slowest = ordered[math.ceil(len(ordered) * QUANTILE) - 1]
    return max(SHORTEST, _rounded_up(slowest * factor))


def _rounded_up(seconds: float) -> float:
    if seconds <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    # The small share keeps 2.0000000000000004 from becoming 2.1.
    return round(math.ceil(seconds / step - 1e-9) * step, 9)
