"""How connections of holdfast's own are opened. No error from here on holds the password.

The drivers' own errors name host, port, user and database only. Malformed connection strings are the
exception: drivers repeat them, so such an error is replaced and not even chained.
"""

from __future__ import annotations

import math
from typing import Any

from holdfast.backends._in_thread import in_thread
from holdfast.backends._own_pool import AsyncOwnPool, SyncOwnPool
from holdfast.backends.postgres._address import Address
from holdfast.backends.postgres._asyncpg import AsyncpgLink, asyncpg_module
from holdfast.backends.postgres._psycopg import PsycopgAsyncLink, PsycopgLink, psycopg_module
from holdfast.errors import ConfigurationError

__all__ = ["asyncpg_pool", "psycopg_async_pool", "psycopg_pool"]

_LEAST_CONNECT_SECONDS = 2
"""libpq's own minimum; the real deadline is kept outside."""


def psycopg_pool(address: Address) -> SyncOwnPool[PsycopgLink]:
    """Return a pool of blocking psycopg connections."""
    psycopg = psycopg_module()
    options = _psycopg_options(psycopg, address)

    def connect(seconds: float) -> PsycopgLink:
        return PsycopgLink(
            in_thread(
                lambda: psycopg.Connection.connect(**options, connect_timeout=_whole(seconds)),
                seconds,
                discard=lambda late: late.close(),
            ),
            ours=True,
        )

    return SyncOwnPool(connect, address.max_connections)


def psycopg_async_pool(address: Address) -> AsyncOwnPool[PsycopgAsyncLink]:
    """Return a pool of asyncio psycopg connections."""
    psycopg = psycopg_module()
    options = _psycopg_options(psycopg, address)

    async def connect(seconds: float) -> PsycopgAsyncLink:
        connection = await psycopg.AsyncConnection.connect(**options, connect_timeout=_whole(seconds))
        return PsycopgAsyncLink(connection)

    return AsyncOwnPool(connect, address.max_connections)


def asyncpg_pool(address: Address) -> AsyncOwnPool[AsyncpgLink]:
    """Return a pool of asyncpg connections."""
    asyncpg = asyncpg_module()
    options: dict[str, Any] = {"statement_cache_size": 0} if address.prepare_threshold is None else {}

    async def connect(seconds: float) -> AsyncpgLink:
        return AsyncpgLink(await asyncpg.connect(address.dsn, timeout=seconds, **options))

    return AsyncOwnPool(connect, address.max_connections)


def _psycopg_options(psycopg: Any, address: Address) -> dict[str, Any]:
    try:
        options = psycopg.conninfo.conninfo_to_dict(address.dsn)
    except psycopg.Error:
        message = f"url of {address.place} is not legal: libpq does not understand it"
        raise ConfigurationError(message, parameter="url") from None
    options.setdefault("application_name", "holdfast")
    return {**options, "autocommit": True, "prepare_threshold": address.prepare_threshold}


def _whole(seconds: float) -> int:
    return max(_LEAST_CONNECT_SECONDS, math.ceil(seconds))
