"""The requests of token buckets for SQL backends: one statement, so one round trip, per ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from holdfast.backends.sql import Query, Row, Statement

__all__ = ["SqlBuckets", "Take"]


class Take(Protocol):
    """The type of `SqlBuckets.take`."""

    def __call__(
        self, name: str, key: str, *, capacity: float, refill_rate: float, cost: float
    ) -> Query[tuple[bool, float]]:
        """Take `cost` tokens if they are there."""
        ...


class SqlBuckets:
    """Token buckets by the statements of one SQL dialect, which have the same names and parameters in each."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._sql = statements

    def take(
        self, name: str, key: str, *, capacity: float, refill_rate: float, cost: float
    ) -> Query[tuple[bool, float]]:
        """Take `cost` tokens if they are there: whether they were, and the tokens left."""
        parameters = {"name": name, "key": key, "capacity": capacity, "refill_rate": refill_rate, "cost": cost}
        return Query(self._sql["take"], parameters, _taken)

    def prune(self) -> Query[Sequence[Row]]:
        """Remove some of the rows whose bucket is full again."""
        return Query(self._sql["prune"], {})


def _taken(rows: Sequence[Row]) -> tuple[bool, float]:
    granted, tokens = rows[0]
    return bool(granted), float(tokens)
