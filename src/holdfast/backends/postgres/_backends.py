"""PostgreSQL in both colours; all there is to say is what its errors mean."""

from __future__ import annotations

from typing import Any

from holdfast.backends._linked_async import LinkedAsync
from holdfast.backends._linked_sync import LinkedSync
from holdfast.backends._links import AsyncLinks, SyncLinks
from holdfast.backends.postgres._errors import explain
from holdfast.backends.sql import server_statement_of

__all__ = ["PostgresAsync", "PostgresSync"]


class PostgresSync(LinkedSync):
    """PostgreSQL for blocking code; get one from `holdfast.connect(URL)` or by passing your client."""

    dialect = "postgres"
    _statement_of = staticmethod(server_statement_of)

    def __init__(self, links: SyncLinks, place: str, **options: Any) -> None:
        super().__init__(links, place, explain=explain, **options)


class PostgresAsync(LinkedAsync):
    """PostgreSQL for asyncio code; get one from `holdfast.connect_async(URL)` or by passing your client."""

    dialect = "postgres"
    _statement_of = staticmethod(server_statement_of)

    def __init__(self, links: AsyncLinks, place: str, **options: Any) -> None:
        super().__init__(links, place, explain=explain, **options)
