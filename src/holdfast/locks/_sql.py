"""The requests of locks for SQL backends: one statement, so one round trip, per step.

A name is a row that stays when its lease ends, so that tokens only grow; `prune` removes it after a day.
SQLite and PostgreSQL differ in their statements only, which have the same names, parameters and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.backends.sql import Query, Row, Statement
from holdfast.locks.holder import Holder, holder
from holdfast.locks.lease import Grant

__all__ = ["SqlLocks"]


class SqlLocks:
    """Locks by the statements of one SQL dialect."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._sql = statements

    def acquire(self, name: str, owner: str, ttl: float) -> Query[Grant]:
        """Take the lock for `ttl` seconds, unless another owner's lease lives."""
        return Query(self._sql["acquire"], {"name": name, "owner": owner, "ttl": ttl}, _grant)

    def watch(self, name: str) -> None:
        """Return None: who waits looks again."""
        del name

    def extend(self, name: str, owner: str, ttl: float) -> Query[bool]:
        """Let the lease of `owner` live for `ttl` seconds from now; False if it has none any more."""
        return Query(self._sql["extend"], {"name": name, "owner": owner, "ttl": ttl}, bool)

    def release(self, name: str, owner: str) -> Query[bool]:
        """End the lease of `owner`; False if it has none any more."""
        return Query(self._sql["release"], {"name": name, "owner": owner}, bool)

    def peek(self, name: str) -> Query[Holder | None]:
        """Tell who holds the lock; None when nobody does."""
        return Query(self._sql["peek"], {"name": name}, _holder)

    def force_release(self, name: str) -> Query[Holder | None]:
        """End whatever lease there is, and tell whose it was."""
        return Query(self._sql["force_release"], {"name": name}, _holder)

    def prune(self) -> Query[Sequence[Row]]:
        """Remove some of the names whose last lease was granted more than a day ago and is over."""
        return Query(self._sql["prune"], {})


def _grant(rows: Sequence[Row]) -> Grant:
    return Grant(rows[0][0] if rows else None)


def _holder(rows: Sequence[Row]) -> Holder | None:
    if not rows:
        return None
    owner, token, age, remaining = rows[0]
    return holder(owner, token, age=float(age), remaining=float(remaining))
