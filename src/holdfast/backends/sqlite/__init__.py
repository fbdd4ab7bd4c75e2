"""SQLite: the embedded default, one file shared by the processes of one machine.

Read `_database` first: it says how a file is locked and why. `_blocking` and `_asyncio` are the two
drivers, `_joined` is an open transaction, `_adopted` is a connection of the user's own.
"""

from __future__ import annotations

import sqlite3

from holdfast.backends.sqlite._adopted import SqliteAdopted
from holdfast.backends.sqlite._asyncio import SqliteAsync
from holdfast.backends.sqlite._blocking import SqliteSync
from holdfast.backends.sqlite._database import MEMORY
from holdfast.errors import ConfigurationError

__all__ = ["SqliteAdopted", "SqliteAsync", "SqliteSync", "adopt", "open_async", "open_sync"]

_PREFIX = "sqlite://"


def open_sync(url: str, *, timeout: float) -> SqliteSync:
    """Open the file of `url` for blocking code, at the first request."""
    return SqliteSync(_path(url), timeout=timeout)


def open_async(url: str, *, timeout: float) -> SqliteAsync:
    """Open the file of `url` for asyncio code, at the first request."""
    return SqliteAsync(_path(url), timeout=timeout)


def adopt(client: object) -> SqliteAdopted:
    """Use a connection of the user's; its open transaction is joined."""
    if not isinstance(client, sqlite3.Connection):
        message = f"a client of type sqlite3.{type(client).__name__} is not legal: give a sqlite3.Connection"
        raise ConfigurationError(message)
    try:
        _ = client.in_transaction
    except sqlite3.ProgrammingError:
        raise ConfigurationError("a client that is closed is not legal: give an open sqlite3.Connection") from None
    return SqliteAdopted(client)


def _path(url: str) -> str:
    rest = url[len(_PREFIX) :]
    if rest in {"", "/", f"/{MEMORY}"}:
        return MEMORY
    path = rest[1:]
    if not rest.startswith("/") or "?" in path or "\0" in path or path.endswith("/"):
        # What is not shaped like ours may be another database's, with a password.
        shown = "sqlite://..." if "@" in url or "?" in url else url
        message = (
            f"url={shown!r} is not legal: give sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:"
        )
        raise ConfigurationError(message)
    return path
