"""Token buckets on SQLite: the statements of `sqlite.sql`; `memory` is the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.backends.sql import Query, Row, statements
from holdfast.ratelimit._sql import SqlBuckets, Take

__all__ = ["prune", "take"]

_buckets = SqlBuckets(statements(__file__, "sqlite.sql"))

take: Take = _buckets.take
prune: Callable[[], Query[Sequence[Row]]] = _buckets.prune
