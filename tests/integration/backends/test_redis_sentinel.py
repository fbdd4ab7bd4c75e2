"""Sentinels: the master is asked for, by URL or by the user's client, and found again after a failover."""

import asyncio
import importlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import holdfast.backends
from holdfast.errors import BackendError, BackendUnavailable
from holdfast.testing.services import RedisSentinel, RedisServer
from holdfast.testing.services.process import eventually
from holdfast.testing.services.redis import ask as tell
from tests.conftest import started
from tests.integration.backends.redis_backends import (
    COLOURS,
    LIBRARIES,
    Backend,
    ask,
    close,
    connect,
    increase,
)

DEADLINE = 0.8
GRACE = 0.25


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def master_for(library: str, colour: str, sentinel: RedisSentinel) -> Any:
    """Make a client as users do; it would wait for sentinels as long as they like."""
    module = importlib.import_module(f"{library}.sentinel" if colour == "sync" else f"{library}.asyncio.sentinel")
    return module.Sentinel([(sentinel.host, sentinel.port)]).master_for(sentinel.service)


async def closed(master: Any) -> None:
    for sentinel in master.connection_pool.sentinel_manager.sentinels:
        await close(sentinel)
    await close(master)
    await close(master.connection_pool)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_users_sentinel_client_finds_the_master(
    library: str, colour: str, redis_sentinel: RedisSentinel
) -> None:
    redis_sentinel.master.empty()
    master = master_for(library, colour, redis_sentinel)
    backend = holdfast.backends.adopt(master)
    assert [await ask(backend, increase()) for _ in range(3)] == [1, 2, 3]
    assert repr(backend).endswith(f"redis+sentinel://127.0.0.1:{redis_sentinel.port}/mymaster/0>")
    await closed(master)


async def test_a_url_names_sentinels_and_service(colour: str, redis_sentinel: RedisSentinel) -> None:
    redis_sentinel.master.empty()
    # The first sentinel is not there; the second is.
    url = f"redis+sentinel://127.0.0.1:1,{redis_sentinel.host}:{redis_sentinel.port}/{redis_sentinel.service}/2"
    backend = connect(colour, url)
    assert [await ask(backend, increase()) for _ in range(3)] == [1, 2, 3]
    await close(backend)


async def test_an_unknown_service_is_unavailable(colour: str, redis_sentinel: RedisSentinel) -> None:
    backend = connect(colour, f"redis+sentinel://{redis_sentinel.host}:{redis_sentinel.port}/other")
    with pytest.raises(BackendUnavailable, match="No master found"):
        await ask(backend, increase())
    await close(backend)


@pytest.fixture
def own_sentinel() -> Iterator[RedisSentinel]:
    sentinel = RedisSentinel()
    yield started(sentinel.start)
    sentinel.stop()


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_frozen_sentinel_does_not_hold_a_request_beyond_its_deadline(
    library: str, colour: str, own_sentinel: RedisSentinel
) -> None:
    master = master_for(library, colour, own_sentinel)
    backend = holdfast.backends.adopt(master, timeout=DEADLINE)
    own_sentinel.pause()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(backend, increase())
    assert time.monotonic() - began < DEADLINE + GRACE
    own_sentinel.resume()
    assert await until_answered(backend) == 1
    await closed(master)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_sentinels_that_hang_are_asked_once_at_a_time(library: str, own_sentinel: RedisSentinel) -> None:
    """Each request that found no connection left a thread behind, which waited for them for ever."""
    master = master_for(library, "sync", own_sentinel)
    backend = holdfast.backends.adopt(master, timeout=0.05)
    own_sentinel.pause()
    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(BackendUnavailable):
            await ask(backend, increase())
    assert threading.active_count() <= before + 1
    own_sentinel.resume()
    assert await until_answered(backend) == 1
    await closed(master)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_new_master_is_found_after_a_failover(library: str, colour: str, own_sentinel: RedisSentinel) -> None:
    old = own_sentinel.master
    replica = RedisServer()
    started(replica.start)
    try:
        replica.ask("REPLICAOF", old.host, str(old.port))
        master = master_for(library, colour, own_sentinel)
        backend = holdfast.backends.adopt(master, timeout=DEADLINE)
        assert await ask(backend, increase()) == 1
        assert eventually(lambda: replica.ask("DBSIZE") == 1, seconds=10)
        # By hand, what sentinels do within some twenty seconds.
        replica.ask("REPLICAOF", "NO", "ONE")
        old.ask("REPLICAOF", replica.host, str(replica.port))
        let_it_name(own_sentinel, replica)
        # The old master is up, and a connection to it is in the pool: it must not be used again.
        assert await until_answered(backend) == 2
        assert counter_of(replica) == "2"
        await closed(master)
    finally:
        replica.stop()


def let_it_name(sentinel: RedisSentinel, master: RedisServer) -> None:
    tell(sentinel.host, sentinel.port, "SENTINEL", "REMOVE", sentinel.service)
    tell(sentinel.host, sentinel.port, "SENTINEL", "MONITOR", sentinel.service, master.host, str(master.port), "1")


def counter_of(server: RedisServer) -> object:
    return server.ask("GET", "holdfast:test:{counter}")


async def until_answered(backend: Backend, seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask(backend, increase())
        except BackendError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)
