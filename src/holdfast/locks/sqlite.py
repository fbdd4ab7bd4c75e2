"""Locks on SQLite: the statements of `sqlite.sql`; `memory` is the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.backends.sql import Query, Row, statements
from holdfast.locks._sql import SqlLocks

__all__ = ["acquire", "extend", "prune", "release"]

_locks = SqlLocks(statements(__file__, "sqlite.sql"))

acquire: Callable[[str, str, float], Query[int | None]] = _locks.acquire
extend: Callable[[str, str, float], Query[bool]] = _locks.extend
release: Callable[[str, str], Query[bool]] = _locks.release
prune: Callable[[], Query[Sequence[Row]]] = _locks.prune
