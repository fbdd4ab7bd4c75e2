"""Real stores whose time a test can move forward without waiting.

A store's clock cannot be set, so what is stored is made older instead. Real time passes as well, a little: tests use
durations of seconds, so that it changes no answer.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis

from holdfast import backends
from holdfast.backends import SyncBackend, migrations
from holdfast.backends.memory import MemorySync
from holdfast.backends.sqlite import SqliteSync
from holdfast.testing.clock import VirtualClock


@dataclass(frozen=True, slots=True)
class World:
    """A backend, and how to let time pass on it."""

    backend: SyncBackend
    advance: Callable[[float], None]
    stored: Callable[[str], int] = lambda _: 0
    """How many entries it keeps: keys of a Redis, rows of the table `holdfast_<pattern>` elsewhere."""

    def ask(self, request: Any) -> Any:
        """Carry out one request."""
        return request.carry(self.backend)


def model() -> World:
    """Return the memory backend: what the others are compared with."""
    clock = VirtualClock()
    return World(MemorySync(clock=clock), clock.advance)


@contextmanager
def world(kind: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """Open an empty store of `kind`."""
    if kind == "sqlite":
        clock = VirtualClock()
        path = request.getfixturevalue("tmp_path") / "holdfast.db"
        with SqliteSync(str(path), clock=clock) as backend:
            yield World(backend, clock.advance, lambda table: _rows(backend, table))
        return
    url = request.getfixturevalue(f"{kind}_url")
    with backends.connect(url) as backend:
        if kind == "redis":
            with redis.Redis.from_url(url) as client:
                yield World(backend, lambda seconds: _age_redis(client, seconds), lambda _: client.dbsize())
        else:
            migrations.migrate(backend)
            with psycopg.connect(url, autocommit=True) as connection:
                yield World(
                    backend,
                    lambda seconds: _age_postgres(connection, seconds),
                    lambda table: _rows(backend, table),
                )


def _rows(backend: Any, table: str) -> int:
    return int(backend.execute(f"select count(*) from holdfast_{table}")[0][0])


def _age_redis(client: Any, seconds: float) -> None:
    for key in client.keys("*"):
        if key.startswith(b"holdfast:bucket:"):
            tokens, updated_us = struct.unpack("<dd", client.get(key))
            client.set(key, struct.pack("<dd", tokens, updated_us - seconds * 1e6), keepttl=True)
        left_ms = client.pttl(key) - int(seconds * 1000)
        if left_ms > 0:
            client.pexpire(key, left_ms)
        else:
            client.delete(key)


def _age_postgres(connection: psycopg.Connection, seconds: float) -> None:
    connection.execute("update holdfast_lock set expires_at = expires_at - make_interval(secs => %s)", [seconds])
    connection.execute(
        "update holdfast_token_bucket set updated_at = updated_at - make_interval(secs => %s),"
        " expires_at = expires_at - make_interval(secs => %s)",
        [seconds, seconds],
    )
