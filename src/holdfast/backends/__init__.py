"""Connections and drivers. This floor knows no pattern.

`connect(url)` and `connect_async(url)` open a backend; `adopt(client)` recognises a client that the
user already has. Every pattern calls `adopt` on its first argument, so both spellings work everywhere:

    Lock(holdfast.connect("sqlite:///jobs.db"), "report")
    Lock(redis.Redis(), "report")
"""

from __future__ import annotations

import importlib
import re
from typing import Any, overload

from holdfast.backends._backend import DEFAULT_TIMEOUT, AsyncBackend, Backend, SyncBackend, carrier
from holdfast.backends._clients import AsyncClient, SyncClient
from holdfast.errors import ConfigurationError
from holdfast.operations import Async, Sync

__all__ = [
    "AsyncBackend",
    "AsyncClient",
    "Backend",
    "SyncBackend",
    "SyncClient",
    "adopt",
    "carrier",
    "connect",
    "connect_async",
]

# RFC 3986, section 3.1. What stands before another URL's "://" may be anything, a password included.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# URL scheme -> module of this folder.
_SCHEMES = {
    "memory": "memory",
    "sqlite": "sqlite",
    "redis": "redis",
    "rediss": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "redis+sentinel": "redis",
    "redis+unix": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "postgresql": "postgres",
    "postgres": "postgres",
}
# Top-level package of a client's class -> module of this folder. Only names: nothing is imported.
_PACKAGES = {
    "sqlite3": "sqlite",
    "redis": "redis",
    "valkey": "redis",
    "psycopg": "postgres",
    "psycopg_pool": "postgres",
    "asyncpg": "postgres",
    "sqlalchemy": "sqlalchemy",
}


def connect(url: str, *, timeout: float = DEFAULT_TIMEOUT) -> SyncBackend:
    """Return a backend for blocking code; connections are opened when they are first needed.

    Args:
        url: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db`, `redis://HOST:PORT/DB`,
            `redis+cluster://HOST:PORT`, `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE`, or
            `postgresql://USER@HOST/DATABASE`.
        timeout: seconds that one request may take, > 0 and at most 24 days.

    Raises:
        ConfigurationError: the scheme is unknown or the URL malformed.
        MissingExtra: the driver is not installed.
    """
    backend: SyncBackend = _module_for(url).open_sync(url, timeout=timeout)
    return backend


def connect_async(url: str, *, timeout: float = DEFAULT_TIMEOUT) -> AsyncBackend:
    """Return a backend for asyncio code: the twin of `connect`, with the same arguments.

    It is a plain function, because nothing is opened before the first request.
    """
    backend: AsyncBackend = _module_for(url).open_async(url, timeout=timeout)
    return backend


@overload
def adopt(client: AsyncClient, *, timeout: float | None = None) -> Backend[Async]: ...
@overload
def adopt(client: SyncClient, *, timeout: float | None = None) -> Backend[Sync]: ...
def adopt(client: Any, *, timeout: float | None = None) -> Backend[Any]:
    """Return the backend for `client`, recognised by the name of its package.

    Args:
        client: a `Backend`, or a client, connection or session of redis-py, valkey-py, psycopg 3,
            asyncpg, SQLAlchemy 2 or sqlite3. A connection whose transaction is open is joined.
        timeout: seconds that one request may take; None keeps the backend's own (5 s).

    Raises:
        ConfigurationError: nothing here knows this type of client.
    """
    if isinstance(client, Backend):
        return client.within(timeout)
    for base in type(client).__mro__:
        module = _PACKAGES.get(base.__module__.partition(".")[0])
        if module is not None:
            adopted = importlib.import_module(f"holdfast.backends.{module}").adopt(client)
            adopted.store = client
            return adopted.within(timeout)  # type: ignore[no-any-return]
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    message = (
        f"a client of type {kind} is not legal: give holdfast.connect(URL), or a client of "
        "redis, valkey, psycopg, asyncpg, sqlalchemy or sqlite3"
    )
    raise ConfigurationError(message)


def _module_for(url: object) -> Any:
    # For callers without a type checker the annotations of `connect` are a wish.
    if not isinstance(url, str):
        message = f"url must be a str, not {type(url).__name__}"
        raise ConfigurationError(message)
    scheme, separator, _ = url.partition("://")
    module = _SCHEMES.get(scheme.lower()) if separator else None
    if module is None:
        # Only the scheme is repeated: the rest of a URL may hold a password.
        given = f"{scheme}://" if separator and _SCHEME.fullmatch(scheme) else "without a scheme"
        message = f"url {given} is not legal: it begins with one of {', '.join(f'{name}://' for name in _SCHEMES)}"
        raise ConfigurationError(message)
    return importlib.import_module(f"holdfast.backends.{module}")
