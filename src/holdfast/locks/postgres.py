"""Locks on PostgreSQL: the statements of `postgres.sql`; `memory` is the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.backends.sql import Query, Row, statements
from holdfast.locks._sql import SqlLocks
from holdfast.locks.holder import Holder
from holdfast.locks.lease import Grant

__all__ = ["acquire", "extend", "force_release", "peek", "prune", "release", "watch"]

_locks = SqlLocks(statements(__file__, "postgres.sql"))

acquire: Callable[[str, str, float], Query[Grant]] = _locks.acquire
extend: Callable[[str, str, float], Query[bool]] = _locks.extend
release: Callable[[str, str], Query[bool]] = _locks.release
watch: Callable[[str], None] = _locks.watch
peek: Callable[[str], Query[Holder | None]] = _locks.peek
force_release: Callable[[str], Query[Holder | None]] = _locks.force_release
prune: Callable[[], Query[Sequence[Row]]] = _locks.prune
