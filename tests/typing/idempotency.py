"""What type checkers must infer for idempotency on the user's side. Never run; see `colours.py`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

import psycopg
import redis
import redis.asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import idempotency_key, idempotent_execute
from holdfast.backends import AsyncBackend, SyncBackend


class Receipt(dict[str, int]):
    """An answer with a type of the user's."""


def charge() -> Receipt:
    """Answer without looking at the database."""
    return Receipt()


def book(tx: SyncBackend) -> list[int]:
    """Write in the transaction that also stores the answer."""
    return [len(tx.execute("select 1"))]


async def charge_async() -> Receipt:
    """Answer without looking at the database."""
    return Receipt()


async def book_async(tx: AsyncBackend) -> list[int]:
    """Write in the transaction that also stores the answer."""
    return [len(await tx.execute("select 1"))]


async def note(tx: AsyncBackend, result: Receipt) -> None:
    """Write down what was charged."""
    await tx.execute("insert into charges values (:amount)", {"amount": result["amount"]})


def blocking(client: redis.Redis, connection: psycopg.Connection, backend: SyncBackend) -> None:
    """A blocking client returns what the function returns."""
    key = idempotency_key("charge", 42)
    assert_type(key, str)
    assert_type(idempotent_execute(client, key, "/charges", charge), Receipt)
    assert_type(idempotent_execute(connection, key, "/charges", charge, ttl=60, lease=5), Receipt)
    assert_type(idempotent_execute(backend, key, "/charges", book, payload={"a": 1}), list[int])


async def awaited(client: redis.asyncio.Redis, session: AsyncSession, backend: AsyncBackend) -> None:
    """An asyncio client returns a coroutine of what the function's coroutine returns."""
    key = idempotency_key("charge", {"order": 42, "lines": (1, 2)})
    pending = idempotent_execute(client, key, "/charges", charge_async)
    _ = assert_type(pending, Coroutine[Any, Any, Receipt])
    assert_type(await pending, Receipt)
    assert_type(await idempotent_execute(session, key, "/charges", book_async), list[int])
    assert_type(await idempotent_execute(backend, key, "/charges", charge_async, commit=note), Receipt)
