"""Fences on SQLite: the statements of `sqlite.sql`; `memory` is the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.backends.sql import Query, Row, statements
from holdfast.locks.fencing._sql import SqlFences

__all__ = ["accept", "prune"]

_fences = SqlFences(statements(__file__, "sqlite.sql"))

accept: Callable[[str, int], Query[int]] = _fences.accept
prune: Callable[[], Query[Sequence[Row]]] = _fences.prune
