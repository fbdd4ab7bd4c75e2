"""What type checkers must infer on the user's side. Never run: mypy and pyright read it.

`assert_type` fails the check when the inferred type differs, so each line is a test. Here are locks and rate limits;
beside it are `events.py`, `idempotency.py`, `resilience.py`, and `mistakes.py` with what must be found wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine
from typing import Any, assert_type

import asyncpg
import psycopg
import redis
import redis.asyncio
import valkey
import valkey.asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import holdfast
from holdfast import Decision, Lease, Lock, RedisLock, TokenBucketLimiter
from holdfast.operations import Async, Sync


def blocking(client: redis.Redis, session: Session, connection: psycopg.Connection, file: sqlite3.Connection) -> None:
    """Blocking clients make blocking patterns."""
    assert_type(Lock(client, "a"), Lock[Sync])
    assert_type(Lock(session, "a"), Lock[Sync])
    assert_type(Lock(connection, "a"), Lock[Sync])
    assert_type(Lock(file, "a"), Lock[Sync])
    assert_type(Lock(redis.RedisCluster(), "a"), Lock[Sync])
    assert_type(Lock(valkey.Valkey(), "a"), Lock[Sync])
    assert_type(RedisLock(client, "a").acquire(), Lease[Sync] | None)
    with Lock(holdfast.connect("memory://"), "a") as lease:
        assert_type(lease, Lease[Sync])
        assert_type(lease.token, int)
        assert_type(lease.extend(), bool)
    limiter = TokenBucketLimiter(client, capacity=10, refill_rate=1)
    assert_type(limiter.acquire("key"), Decision)
    assert_type(limiter.is_allowed("key"), bool)


async def awaited(
    client: redis.asyncio.Redis,
    session: AsyncSession,
    connection: psycopg.AsyncConnection,
    other: asyncpg.Connection[Any],
) -> None:
    """Asyncio clients make patterns that are awaited."""
    assert_type(Lock(client, "a"), Lock[Async])
    assert_type(Lock(session, "a"), Lock[Async])
    assert_type(Lock(connection, "a"), Lock[Async])
    assert_type(Lock(other, "a"), Lock[Async])
    assert_type(Lock(redis.asyncio.RedisCluster(), "a"), Lock[Async])
    assert_type(Lock(valkey.asyncio.Valkey(), "a"), Lock[Async])
    assert_type(await RedisLock(client, "a").acquire(), Lease[Async] | None)
    async with Lock(holdfast.connect_async("memory://"), "a") as lease:
        assert_type(lease, Lease[Async])
        assert_type(await lease.extend(), bool)
    limiter = TokenBucketLimiter(client, capacity=10, refill_rate=1)
    pending = limiter.acquire("key")
    _ = assert_type(pending, Coroutine[Any, Any, Decision])
    assert_type(await pending, Decision)
