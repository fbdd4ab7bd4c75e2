"""Rows of the user's own SQL table that only the newest holder of a lock can change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, overload

from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.backends.sql import Query, Row, Statement
from holdfast.errors import ConfigurationError
from holdfast.locks.fencing._token import legal_token, stale
from holdfast.operations import Async, C, Pattern, Steps, Sync, operation

__all__ = ["FencedTable"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class FencedTable(Pattern[C], Generic[C]):
    """A table with a column for the fencing token; an update with a stale token changes nothing.

        accounts = FencedTable(db, "accounts")          # create table accounts (id ..., balance ..., fence bigint ...)
        accounts.update("acc-7", {"balance": 90}, token=lease.token)

    The update is one statement, `update accounts set balance = ..., fence = :token where id = :id and fence <=
    :token`, so nothing comes between look and write; in an open transaction it becomes part of that. A row whose
    token is null has not been written under a lock yet, and accepts any.

    Args:
        client: a SQL client or backend, or an open transaction.
        table: the table's name, `schema.table` if need be; letters, digits and `_`.
        key: the column that names a row.
        fence: the column that holds the greatest token, `bigint` or `integer`.

    Raises:
        ConfigurationError: a name is not legal; the client has no SQL.
    """

    @overload
    def __init__(
        self: FencedTable[Async], client: AsyncClient, table: str, *, key: str = ..., fence: str = ...
    ) -> None: ...
    @overload
    def __init__(
        self: FencedTable[Sync], client: SyncClient, table: str, *, key: str = ..., fence: str = ...
    ) -> None: ...
    def __init__(self, client: Any, table: str, *, key: str = "id", fence: str = "fence") -> None:
        self.table: str = ".".join(_quoted("table", part) for part in str(table).split(".", 1))
        self.key: str = _quoted("key", key)
        self.fence: str = _quoted("fence", fence)
        self._driver = backend = adopt(client)
        if backend.dialect not in {"sqlite", "postgres"}:
            raise ConfigurationError(f"FencedTable needs SQL, which {backend!r} has not; on Redis use FencedValue")

    @operation
    def update(self, key: Any, values: Mapping[str, Any], *, token: int) -> Steps[bool]:
        """Set the columns `values` of the row `key`; False when there is no such row.

        Raises:
            StaleToken: a newer holder has changed the row; nothing was changed.
            ConfigurationError: a column's name, or the token, is not legal.
        """
        columns = tuple(values)
        names = tuple(_quoted("column", column) for column in columns)
        parameters = {f"v{number}": values[column] for number, column in enumerate(columns)}
        update = _update(self.table, self.key, self.fence, names)
        if (yield from Query(update, {**parameters, "token": legal_token(token), "key": key}, bool)):
            return True
        newest = yield from Query(_look(self.table, self.key, self.fence), {"key": key}, _first)
        if newest is not None and newest > token:
            raise stale(f"{self.table} {key!r}", token, newest)
        return False

    def __repr__(self) -> str:
        return f"<FencedTable {self.table} on {self._driver.place}>"

    if TYPE_CHECKING:
        _driver: Any


@lru_cache(maxsize=256)
def _update(table: str, key: str, fence: str, names: tuple[str, ...]) -> Statement:
    assigned = ", ".join(f"{name} = :v{number}" for number, name in enumerate((*names,)))
    sql = (
        f"update {table} set {assigned}{', ' if assigned else ''}{fence} = :token "  # noqa: S608 - names are checked
        f"where {key} = :key and ({fence} is null or {fence} <= :token) returning {fence}"
    )
    return Statement("fenced update", sql, durable=True)


@lru_cache(maxsize=256)
def _look(table: str, key: str, fence: str) -> Statement:
    return Statement("fence of a row", f"select {fence} from {table} where {key} = :key")  # noqa: S608 - see above


def _quoted(parameter: str, name: object) -> str:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        message = f"{parameter}={name!r} is not legal: give a name of letters, digits and _, at most 63"
        raise ConfigurationError(message, parameter=parameter)
    return f'"{name}"'


def _first(rows: Sequence[Row]) -> int | None:
    return rows[0][0] if rows else None
