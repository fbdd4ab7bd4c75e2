"""What type checkers must infer for events on the user's side. Never run; see `colours.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, assert_type

import asyncpg
import psycopg
import redis
import redis.asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import holdfast
from holdfast.events import (
    ANY,
    Aggregate,
    Backlog,
    Consumer,
    DeadLetter,
    DeadLetters,
    Event,
    EventStore,
    Message,
    Outbox,
    RedisStreamBroker,
    Relay,
    SqlBroker,
    consumer,
)
from holdfast.operations import Async, Sync


class Ledger(Aggregate):
    """An aggregate of the user's."""


class OwnBroker:
    """A broker of the user's."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send them."""


class Ambiguous:
    """An asyncio client that can also be closed without `await`."""

    async def __aenter__(self) -> Self:
        """Open it."""
        return self

    def close(self) -> None:
        """Drop it."""


def blocking(connection: psycopg.Connection, session: Session, client: redis.Redis) -> None:
    """Blocking clients make blocking patterns."""
    store = EventStore(connection)
    assert_type(store, EventStore[Sync])
    assert_type(store.append("a", [Event("b")], expected_version=0), int)
    assert_type(store.read("a"), list[Event])
    assert_type(Ledger.load(store, "a"), Ledger)
    assert_type(Ledger().save(store), int)
    assert_type(store.read_all(limit=5), list[Event])
    assert_type(EventStore(session), EventStore[Sync])
    assert_type(Outbox(session), Outbox[Sync])
    assert_type(Outbox(connection).add("topic", {"a": 1}), str)
    assert_type(DeadLetters(connection).read(), list[DeadLetter])
    with holdfast.connect("sqlite:///a.db").transaction() as tx:
        assert_type(EventStore(tx), EventStore[Sync])
        assert_type(Outbox(tx).add("topic", {"a": 1}), str)
    assert_type(Relay(connection, RedisStreamBroker(client)).run_once(), int)

    @consumer(connection, SqlBroker(connection), topic="t", name="n")
    def handle(tx: object, message: Message) -> None:
        """Do something."""

    assert_type(handle, Consumer[Sync])
    assert_type(handle.run_once(), int)


async def awaited(client: redis.asyncio.Redis, session: AsyncSession, connection: asyncpg.Connection[Any]) -> None:
    """Asyncio clients make asyncio patterns."""
    backend = holdfast.connect_async("sqlite:///a.db")
    store = EventStore(backend)
    assert_type(await store.append("a", [Event("b")], expected_version=ANY), int)
    assert_type(await store.read_all(limit=5), list[Event])
    assert_type(await Ledger.load(store, "a"), Ledger)
    assert_type(await Ledger().save(store), int)
    assert_type(EventStore(session), EventStore[Async])
    assert_type(EventStore(connection), EventStore[Async])
    assert_type(Outbox(session), Outbox[Async])
    assert_type(await Outbox(connection).add("topic", {"a": 1}), str)
    assert_type(await DeadLetters(backend).read(), list[DeadLetter])
    async with backend.transaction() as tx:
        assert_type(EventStore(tx), EventStore[Async])
        assert_type(await Outbox(tx).add("topic", {"a": 1}), str)
    assert_type(await Relay(backend, OwnBroker()).backlog(), Backlog)
    assert_type(await Relay(backend, RedisStreamBroker(client)).run_once(), int)

    @consumer(backend, SqlBroker(backend), topic="t", name="n")
    async def handle(tx: object, message: Message) -> None:
        """Do something."""

    assert_type(handle, Consumer[Async])
    assert_type(await handle.run_once(), int)


def ambiguous(client: Ambiguous) -> None:
    """A client that fits both colours is an asyncio client."""
    assert_type(EventStore(client), EventStore[Async])
    assert_type(Outbox(client), Outbox[Async])
    assert_type(DeadLetters(client), DeadLetters[Async])
    assert_type(SqlBroker(client), SqlBroker[Async])
    assert_type(RedisStreamBroker(client), RedisStreamBroker[Async])
    assert_type(Relay(client, OwnBroker()), Relay[Async])
