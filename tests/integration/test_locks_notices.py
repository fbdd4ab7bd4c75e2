"""Waiting for a lock on Redis: told instead of asking again and again, and never for ever when a notice is lost."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from holdfast.locks import Lock

WAITERS = 8


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """Connect a client that only looks, and meddles."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
async def client(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, protocol=request.param) as opened:
        yield opened


def asks(server: redis.Redis) -> int:
    stats: Any = server.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


def subscribers(server: redis.Redis) -> int:
    return sum(int(count) for _, count in server.pubsub_numsub(*server.pubsub_channels()))


async def waiting(client: Any, number: int = 1, *, seconds: float = 60.0) -> list[asyncio.Task[Any]]:
    """Return tasks that wait for a lock which somebody holds."""
    tasks = [asyncio.create_task(Lock(client, "taken", timeout=seconds).acquire()) for _ in range(number)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_who_waits_asks_less_than_once_a_second(client: redis.asyncio.Redis, server: redis.Redis) -> None:
    """Of two asks each is one for the taken lock, one after the subscription."""
    held = await Lock(client, "taken").acquire()
    assert held is not None
    before = asks(server)
    tasks = await waiting(client, WAITERS)
    await asyncio.sleep(2.0)
    assert asks(server) - before <= WAITERS * (2 + 2)
    assert subscribers(server) == 1, "one connection and one subscription for all"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await held.release()


async def test_a_release_wakes_one_waiter_of_a_process_at_a_time(
    client: redis.asyncio.Redis, server: redis.Redis
) -> None:
    """In the order of waiting; the others do not even ask."""
    held = await Lock(client, "taken", ttl=600).acquire()
    assert held is not None
    order: list[int] = []

    async def take(number: int) -> None:
        async with Lock(client, "taken", timeout=60):
            order.append(number)

    tasks = []
    for number in range(WAITERS):
        tasks.append(asyncio.create_task(take(number)))
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    before = asks(server)
    await held.release()
    await asyncio.gather(*tasks)
    assert order == list(range(WAITERS))
    assert asks(server) - before <= 3 * WAITERS, "one acquire and one release each, and a few backstops"


async def test_a_waiter_that_gives_up_hands_the_notice_on(client: redis.asyncio.Redis) -> None:
    """Wherever the first is when it is cancelled, the second gets the lock long before it would look by itself."""
    dice = random.Random(3)
    for _ in range(60):
        held = await Lock(client, "taken", ttl=600).acquire(timeout=5)
        assert held is not None
        first = asyncio.create_task(Lock(client, "taken", timeout=60).acquire())
        await asyncio.sleep(0.005)
        second = asyncio.create_task(Lock(client, "taken", timeout=60).acquire())
        await asyncio.sleep(0.005)
        await held.release()
        begun = time.perf_counter()
        while time.perf_counter() - begun < dice.uniform(0, 0.0015):  # noqa: ASYNC110 - sleeping is too coarse
            await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if (lease := await first) is not None:
                await lease.release()
        async with asyncio.timeout(0.9):
            lease = await second
        assert lease is not None
        await lease.release()


async def test_a_lost_connection_costs_a_waiter_nothing_but_another_look(
    client: redis.asyncio.Redis, server: redis.Redis
) -> None:
    held = await Lock(client, "taken", ttl=600).acquire()
    assert held is not None
    (task,) = await waiting(client)
    for _ in range(3):
        assert server.client_kill_filter(_type="pubsub") == 1
        await asyncio.sleep(0.3)
        assert subscribers(server) == 1, "it subscribes again"
    await held.release()
    async with asyncio.timeout(0.9):
        assert await task is not None


async def test_a_lease_that_ends_by_itself_is_waited_for_exactly(client: redis.asyncio.Redis) -> None:
    """Nobody tells, but the store has said when to look."""
    await Lock(client, "taken", ttl=0.5).acquire()
    begun = time.monotonic()
    assert await Lock(client, "taken", timeout=60).acquire() is not None
    assert 0.4 <= time.monotonic() - begun < 0.5 + 0.4


async def test_a_user_without_rights_to_channels_waits_all_the_same(redis_url: str, server: redis.Redis) -> None:
    """It looks again and again, and a release that cannot be published is a release."""
    server.acl_setuser(
        "mute", enabled=True, passwords=["+x"], keys=["*"], categories=["+@all"], reset_channels=True, reset=True
    )
    try:
        async with redis.asyncio.Redis.from_url(redis_url, username="mute", password="x") as mute:
            held = await Lock(mute, "taken", ttl=600).acquire()
            assert held is not None
            (task,) = await waiting(mute)
            assert await held.release()
            async with asyncio.timeout(0.9):
                lease = await task
            assert lease is not None
            assert await lease.release()
    finally:
        server.acl_deluser("mute")


async def test_nothing_stays_open_after_the_last_waiter(
    client: redis.asyncio.Redis, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.backends.redis._notices_async._LINGER", 0.1)
    held = await Lock(client, "taken", ttl=600).acquire()
    assert held is not None
    tasks = await waiting(client, 3)
    await held.release()
    for _ in range(3):
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            tasks.remove(task)
            await task.result().release()
        if not tasks:
            break
    await asyncio.sleep(0.4)
    assert subscribers(server) == 0
    assert not client.connection_pool._in_use_connections
