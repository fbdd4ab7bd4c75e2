"""PostgreSQL: psycopg 3 and asyncpg behind one executor, joining the user's open transaction.

`_errors` says what a failure means, `_guard` how the deadline is kept, `_psycopg` and `_asyncpg` are
the two drivers; transactions and restarts are those of every SQL server (`backends._linked_sync`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from holdfast.backends._backend import Backend
from holdfast.backends.postgres import _adopted
from holdfast.backends.postgres._address import parse
from holdfast.backends.postgres._backends import PostgresAsync, PostgresSync

__all__ = ["PostgresAsync", "PostgresSync", "adopt", "open_async", "open_sync"]


def open_sync(url: str, *, timeout: float) -> PostgresSync:
    """Open a backend for blocking code over psycopg; it connects at the first request."""
    from holdfast.backends.postgres._connect import psycopg_pool

    address = parse(url)
    return PostgresSync(psycopg_pool(address), address.place, timeout=timeout)


def open_async(url: str, *, timeout: float) -> PostgresAsync:
    """Open a backend for asyncio code over psycopg, or over asyncpg where only that is installed."""
    from holdfast.backends.postgres import _connect

    address = parse(url)
    if find_spec("psycopg") is None and find_spec("asyncpg") is not None:
        return PostgresAsync(_connect.asyncpg_pool(address), address.place, timeout=timeout)
    return PostgresAsync(_connect.psycopg_async_pool(address), address.place, timeout=timeout)


def adopt(client: Any) -> Backend[Any]:
    """Use a connection or a pool of the user's; an open transaction is joined."""
    return _adopted.adopt(client)
