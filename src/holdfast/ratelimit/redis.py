"""Token buckets on Redis: one atomic script, so one round trip, per ask. Time is the server's."""

from __future__ import annotations

from holdfast.backends.redis import Eval, Script, physical_key

__all__ = ["prune", "take"]

_TAKE = Script(__file__, "token_bucket.lua")


def take(name: str, key: str, *, capacity: float, refill_rate: float, cost: float) -> Eval[tuple[bool, float]]:
    """Take `cost` tokens if they are there: whether they were, and the tokens left."""
    return Eval(_TAKE, (physical_key("bucket", name, key),), (capacity, refill_rate, cost), _taken)


def prune() -> None:
    """Return None: Redis removes full buckets by itself."""


def _taken(reply: list[bytes]) -> tuple[bool, float]:
    return bool(reply[0]), float(reply[1])
