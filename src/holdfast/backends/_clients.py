"""What counts as a client, and how type checkers tell its colour: by how it is entered.

Asyncio clients of redis-py, valkey-py, psycopg and SQLAlchemy have `__aenter__`, blocking ones have not;
asyncpg's connection has neither and is told by `is_in_transaction`. For those only the presence of a
method is asked for, never its types, because several clients have no annotations. So no driver has to be imported,
or even installed, to know whether `Lock(client, name)` is a `Lock[Sync]` or a `Lock[Async]`.

Overloads must ask for `AsyncClient` first: a `SyncClient` is whatever else can be closed.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from holdfast.backends._backend import Backend
from holdfast.operations import Async, Sync

__all__ = ["AsyncClient", "SyncClient"]


class _AsyncEntered(Protocol):
    async def __aenter__(self) -> Any: ...


class _AsyncpgConnection(Protocol):
    def is_in_transaction(self) -> bool: ...


class _Closed(Protocol):
    def close(self) -> None: ...


AsyncClient: TypeAlias = Backend[Async] | _AsyncEntered | _AsyncpgConnection
SyncClient: TypeAlias = Backend[Sync] | _Closed
