"""Cancelled tasks: no lock without a holder, no reply for the wrong task, no connection lost."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

import holdfast.backends
from holdfast.backends.redis import Command, Eval, RedisAsync, physical_key
from holdfast.operations import Steps
from holdfast.testing.services import RedisServer
from tests.integration.backends.redis_backends import ACQUIRE, LIBRARIES, RELEASE, client, connect, echo, increase

TRIES = 300
GRACE = 0.25


@pytest.fixture(params=LIBRARIES)
async def users(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    opened = client(request.param, "async", redis_url)
    yield opened
    await opened.aclose()


async def cancelled_after(seconds: float, task: asyncio.Task[Any]) -> bool:
    """Cancel `task` after a while; tell whether it was still running."""
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:  # noqa: ASYNC110 - sleeping for 200 us takes a millisecond
        await asyncio.sleep(0)
    was_running = task.cancel()
    await asyncio.wait((task,))
    return was_running


async def test_cancelling_never_mixes_up_replies_or_loses_connections(users: Any) -> None:
    backend = holdfast.backends.adopt(users)
    dice = random.Random(1)
    cancelled = 0
    for number in range(TRIES):
        task = asyncio.create_task(backend.eval(increase()))
        cancelled += await cancelled_after(dice.uniform(0, 400e-6), task)
        text = f"reply {number}"
        assert (await backend.eval(echo(text)))[0] == text.encode()
    assert cancelled > TRIES / 10
    assert not users.connection_pool._in_use_connections
    # Waiting for the reply keeps the connection; dropping it each time would show here.
    assert len(users.connection_pool._available_connections) <= 2


def acquire_or_clean_up(name: str, owner: str) -> Steps[int]:
    """Do what a lock does: what may have been granted is given back when anything goes wrong."""
    keys = [physical_key("test", name)]
    try:
        return (yield from Eval(ACQUIRE, keys, [owner], int))
    except BaseException:
        yield from Eval(RELEASE, keys, [owner], int)
        raise


async def test_a_cancelled_acquire_leaves_no_lock_behind(users: Any) -> None:
    backend = holdfast.backends.adopt(users)
    dice = random.Random(2)
    left_behind = granted = 0
    for number in range(TRIES):
        # Other requests keep several connections busy, so that acquire and release rarely share one.
        noise = [asyncio.create_task(backend.eval(increase())) for _ in range(3)]
        name = f"lock {number}"
        task = asyncio.create_task(backend.run(acquire_or_clean_up(name, "me")))
        await cancelled_after(dice.uniform(0, 400e-6), task)
        await asyncio.wait(noise)
        held = await users.exists(physical_key("test", name))
        granted += not task.cancelled()
        left_behind += held and task.cancelled()
    assert left_behind == 0
    assert granted < TRIES


@pytest.fixture
async def slow_first_connection(redis_url: str) -> AsyncIterator[str]:
    """Yield an address at which what is sent on the first connection takes 100 ms, and on the others no time."""
    address = urlsplit(redis_url)
    connections = itertools.count()

    async def forward(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        delay = 0.1 if next(connections) == 0 else 0.0
        reader, writer = await asyncio.open_connection(address.hostname, address.port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    await asyncio.sleep(delay)
                    target.write(data)
            target.close()

        await asyncio.gather(copy(client_reader, writer, delay), copy(reader, client_writer, 0.0))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}{address.path}"


async def test_the_release_after_a_cancelled_acquire_does_not_overtake_it(
    slow_first_connection: str, redis_url: str
) -> None:
    backend, direct = connect("async", slow_first_connection), connect("async", redis_url)
    await backend.eval(increase())
    task = asyncio.create_task(backend.run(acquire_or_clean_up("slow", "me")))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    await asyncio.sleep(0.3)
    assert await direct.command(Command(["EXISTS", physical_key("test", "slow")], writes=False)) == 0
    await backend.aclose()
    await direct.aclose()


async def test_a_cancelled_write_gives_its_connection_back(redis_url: str) -> None:
    backend = connect("async", redis_url)
    assert isinstance(backend, RedisAsync)
    assert await backend.eval(increase()) == 1, "so that the server knows the script"
    before = await backend.command(Command(["CLIENT", "ID"], writes=False))
    task = asyncio.create_task(backend.eval(increase()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await backend.eval(increase()) == 3
    assert await backend.command(Command(["CLIENT", "ID"], writes=False)) == before
    await backend.aclose()


async def test_cancelling_while_the_server_hangs_waits_for_the_deadline_at_most(own_redis_server: RedisServer) -> None:
    backend = connect("async", own_redis_server.url, timeout=0.4)
    await backend.eval(increase())
    own_redis_server.pause()
    task = asyncio.create_task(backend.eval(increase()))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert 0.3 < time.monotonic() - started < 0.4 + GRACE
    own_redis_server.resume()
    assert (await backend.eval(echo("mine")))[0] == b"mine"
    await backend.aclose()


async def test_a_cancelled_read_or_blocking_command_ends_at_once(redis_url: str) -> None:
    backend = connect("async", redis_url)
    waiting = Command(["BLPOP", "nothing", "30"], writes=True, wait=30)
    task = asyncio.create_task(backend.command(waiting))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert time.monotonic() - started < GRACE
    assert (await backend.eval(echo("mine")))[0] == b"mine"
    await backend.aclose()


async def test_a_users_timeout_around_a_request_still_works(own_redis_server: RedisServer) -> None:
    backend = connect("async", own_redis_server.url, timeout=0.4)
    await backend.eval(increase())
    own_redis_server.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backend.eval(increase())
    own_redis_server.resume()
    await backend.aclose()


async def test_tasks_cancelled_in_the_line_for_a_connection_let_the_others_pass(redis_url: str) -> None:
    users = client("redis", "async", redis_url, max_connections=2)
    backend = holdfast.backends.adopt(users)
    tasks = [asyncio.create_task(backend.eval(increase())) for _ in range(200)]
    await asyncio.sleep(0)
    for task in tasks[5::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    counts = [count for count in results if isinstance(count, int)]
    assert sorted(counts) == list(range(1, len(counts) + 1))
    assert len(counts) >= 100
    await users.aclose()
