"""A silent store: holders hear of the end of their lease in time, and callers wait no longer than they said."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import holdfast
from holdfast.backends import migrations
from holdfast.errors import LockLost, OutcomeUnknown
from holdfast.locks import Lock
from holdfast.testing.services import PostgresServer, RedisServer, Server
from tests.conftest import started

# What an answer may come too late by, on a machine that does other things too.
GRACE = 0.4
TTL = 1.0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    running: dict[str, Any] = {}
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(params=["redis", "postgres"])
async def server(request: pytest.FixtureRequest, servers: dict[str, Any]) -> AsyncIterator[Server]:
    if request.param not in servers:
        servers[request.param] = RedisServer() if request.param == "redis" else PostgresServer()
        started(servers[request.param].start)
        if request.param == "postgres":
            async with holdfast.connect_async(servers["postgres"].url) as db:
                await migrations.migrate(db)
    yield servers[request.param]
    servers[request.param].resume()


async def test_a_holder_is_interrupted_when_its_lease_ends(server: Any) -> None:
    """Not when the renewal that hangs is given up, which would be the backend's whole deadline later."""
    interrupted_after: list[float] = []

    async def hold(db: Any) -> None:
        async with Lock(db, "held", ttl=TTL):
            begun = time.monotonic()
            server.pause()
            try:
                await asyncio.sleep(30)
            finally:
                interrupted_after.append(time.monotonic() - begun)
                server.resume()

    async with holdfast.connect_async(server.url) as db:
        with pytest.raises(LockLost):
            await hold(db)
    assert TTL * 0.8 <= interrupted_after[0] <= TTL + GRACE


def test_a_blocking_holder_sees_it_when_it_looks(server: Any) -> None:
    with holdfast.connect(server.url) as db:
        lock = Lock(db, "held by a thread", ttl=TTL)
        lease = lock.__enter__()
        server.pause()
        begun = time.monotonic()
        while lease.held:
            time.sleep(0.01)
        assert TTL * 0.8 <= time.monotonic() - begun < TTL + GRACE
        with pytest.raises(LockLost):
            lease.check()
        server.resume()
        with pytest.raises(LockLost):
            lock.__exit__(None, None, None)


async def warmed(db: Any, name: str) -> Any:
    """Return a lock whose connection is open."""
    lock = Lock(db, name)
    lease = await lock.acquire()
    assert lease is not None
    await lease.release()
    return lock


@pytest.mark.parametrize("patience", [0.0, 0.1, 0.5])
async def test_acquire_answers_when_its_time_is_over(server: Any, patience: float) -> None:
    """With the error that says that the lock may have been granted."""
    async with holdfast.connect_async(server.url) as db:
        lock = await warmed(db, f"asked for {patience}")
        server.pause()
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await lock.acquire(timeout=patience)
        assert time.monotonic() - begun <= max(patience, 0.2) + GRACE


async def test_a_cancelled_caller_waits_for_two_seconds_at_most(server: Any) -> None:
    """One for the answer to what it asked, one for giving back what that may have granted."""
    async with holdfast.connect_async(server.url) as db:
        lock = await warmed(db, "cancelled")
        server.pause()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), lock:
                raise AssertionError("entered")
        assert time.monotonic() - begun <= 2.1 + GRACE
