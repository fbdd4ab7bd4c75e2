"""The requests of fences for SQL backends: one statement each, the same in both dialects but for the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.backends.sql import Query, Row, Statement

__all__ = ["SqlFences"]


class SqlFences:
    """Fences by the statements of one SQL dialect."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._sql = statements

    def accept(self, resource: str, token: int) -> Query[int]:
        """Remember `token` if it is the greatest yet; return the greatest."""
        return Query(self._sql["accept"], {"resource": resource, "token": token}, _newest)

    def prune(self) -> Query[Sequence[Row]]:
        """Remove some of the fences that were last looked at more than 30 days ago."""
        return Query(self._sql["prune"], {})


def _newest(rows: Sequence[Row]) -> int:
    return int(rows[0][0])
