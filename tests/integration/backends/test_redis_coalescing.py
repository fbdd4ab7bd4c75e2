"""Requests of one event loop share a connection: one write, one read, each reply for the one who asked."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

import holdfast.backends
from holdfast.backends.redis import Command, RedisAsync, adopt
from holdfast.errors import BackendUnavailable, ConfigurationError, OutcomeUnknown
from holdfast.testing.services import RedisServer
from tests.integration.backends.redis_backends import LIBRARIES, client, connect, echo, increase, spin

TASKS = 200
GRACE = 0.3


@pytest.fixture(params=LIBRARIES)
async def users(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    opened = client(request.param, "async", redis_url)
    yield opened
    await opened.aclose()


def pool_of(users: Any) -> tuple[int, int]:
    """How many connections are idle, and how many in use."""
    pool = users.connection_pool
    return len(pool._available_connections), len(pool._in_use_connections)


async def test_what_is_asked_at_once_is_one_write(users: Any, redis_url: str) -> None:
    backend = adopt(users)
    await backend.eval(increase())
    with redis.Redis.from_url(redis_url) as server:
        server.config_resetstat()
        before = server.info("stats")["total_reads_processed"]
        counted = await asyncio.gather(*(backend.eval(increase()) for _ in range(TASKS)))
        reads = server.info("stats")["total_reads_processed"] - before
    assert counted == list(range(2, TASKS + 2)), "in the order of asking"
    assert reads <= 5, "two of them are the looks themselves"
    assert pool_of(users) == (1, 0)


async def test_cancelled_requests_keep_their_places(users: Any) -> None:
    """Thousands of requests, one in four cancelled at some moment: nobody gets another's reply."""
    backend, dice = adopt(users), random.Random(5)

    async def asking(number: int) -> None:
        for turn in range(20):
            text = f"{number}.{turn}"
            assert (await backend.eval(echo(text)))[0] == text.encode()
            await backend.eval(increase(text))

    tasks = [asyncio.create_task(asking(number)) for number in range(TASKS)]
    for task in dice.sample(tasks, TASKS // 4):
        await asyncio.sleep(dice.uniform(0, 0.002))
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    assert outcomes.count(None) >= TASKS * 3 // 4
    await asyncio.sleep(0.05)
    assert pool_of(users) == (1, 0), "given back, although the last may have been cancelled"


async def test_a_connection_on_its_way_back_is_not_asked_on(users: Any) -> None:
    """The last reply comes when its task is cancelled, and the next task asks before the connection is in the pool."""
    backend = adopt(users)
    await backend.eval(echo("warm"))
    for turns in range(12):
        cancelled = asyncio.create_task(backend.eval(echo("cancelled")))
        await asyncio.sleep(0)
        cancelled.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert (await backend.within(2.0).eval(echo("next")))[0] == b"next"
    await asyncio.sleep(0.05)
    assert pool_of(users)[1] == 0


async def test_deadlines_are_each_requests_own(redis_url: str) -> None:
    """Behind a busy script the impatient give up, and the patient are answered on the same connection."""
    backend: Any = connect("async", redis_url)
    await backend.eval(increase())
    begun = time.monotonic()
    busy = asyncio.create_task(backend.eval(spin(500)))
    await asyncio.sleep(0.05)
    hasty = asyncio.create_task(backend.within(0.2).eval(increase()))
    patient = asyncio.create_task(backend.eval(increase()))
    with pytest.raises(OutcomeUnknown):
        await hasty
    assert 0.2 <= time.monotonic() - begun < 0.25 + GRACE
    await busy
    assert await patient == 3, "the hasty one was carried out all the same"
    await backend.aclose()


async def test_after_silence_nothing_more_is_sent_on_that_connection(own_redis_server: RedisServer) -> None:
    """A connection that may be dead costs those who are on it their deadline, and nobody else."""
    backend: Any = connect("async", own_redis_server.url, timeout=0.4)
    await backend.eval(increase())
    own_redis_server.pause()
    begun = time.monotonic()
    lost = await asyncio.gather(*(backend.eval(increase()) for _ in range(50)), return_exceptions=True)
    assert {type(error) for error in lost} == {OutcomeUnknown}
    assert 0.4 <= time.monotonic() - begun < 0.4 + GRACE
    own_redis_server.resume()
    assert await backend.eval(increase()) >= 2
    await backend.aclose()


async def test_a_killed_server_fails_all_that_are_under_way_at_once(own_redis_server: RedisServer) -> None:
    backend: Any = connect("async", own_redis_server.url)
    await backend.eval(increase())
    own_redis_server.pause()
    asking = [asyncio.create_task(backend.eval(increase())) for _ in range(50)]
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    await asyncio.to_thread(own_redis_server.kill)
    assert {type(error) for error in await asyncio.gather(*asking, return_exceptions=True)} == {OutcomeUnknown}
    assert {
        type(error) for error in await asyncio.gather(*asking[:0], backend.eval(increase()), return_exceptions=True)
    }
    assert time.monotonic() - begun < 1 + GRACE
    with pytest.raises(BackendUnavailable):
        await backend.eval(increase())
    own_redis_server.start()
    assert await backend.eval(increase()) >= 2
    await backend.aclose()


async def test_what_is_in_flight_is_bounded(redis_url: str) -> None:
    """Further requests wait for their turn, in the order of asking, and no longer than their deadline."""
    backend: Any = holdfast.backends.connect_async(f"{redis_url}?max_in_flight=3")
    assert await asyncio.gather(*(backend.eval(increase()) for _ in range(50))) == list(range(1, 51))
    busy = [asyncio.create_task(backend.eval(spin(300))) for _ in range(3)]
    await asyncio.sleep(0.05)
    with pytest.raises(BackendUnavailable, match="no room"):
        await backend.within(0.1).eval(increase())
    await asyncio.gather(*busy)
    await backend.aclose()


async def test_a_request_that_waits_on_purpose_holds_up_nobody(redis_url: str) -> None:
    backend: Any = connect("async", redis_url)
    waiting = asyncio.create_task(backend.command(Command(["BLPOP", "nothing", 1], writes=True, wait=1.0)))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    await asyncio.gather(*(backend.eval(increase()) for _ in range(50)))
    assert time.monotonic() - begun < 0.5
    assert await waiting is None
    await backend.aclose()


LOOPS = """
import asyncio, sys
from holdfast.backends.redis import adopt
from tests.integration.backends.redis_backends import client, increase, spin

backend = adopt(client("redis", "async", sys.argv[1]))

async def asking():
    return await asyncio.gather(*(backend.eval(increase()) for _ in range(3)))

async def abandoned():
    asyncio.create_task(backend.eval(spin(200)))
    await asyncio.sleep(0.02)

for _ in range(3):
    print(*asyncio.run(asking()))
asyncio.run(abandoned())
print(*asyncio.run(asking()))
"""


def test_a_client_may_be_used_on_one_event_loop_after_the_other(redis_url: str) -> None:
    """What the last loop left behind is of no use to the next, and does no harm."""
    command = [sys.executable, "-W", "ignore", "-c", LOOPS, redis_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["1 2 3", "4 5 6", "7 8 9", "10 11 12"]


@pytest.mark.parametrize("how", ["client", "url", "python parser"])
async def test_sharing_can_be_switched_off(how: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or is, where replies are not parsed in C: then each request has a connection of its own, as many as there are."""
    if how == "url":
        backend: Any = holdfast.backends.connect_async(f"{redis_url}?coalesce=no&max_connections=4")
        pool = backend._exchange.__self__.pool
    else:
        from redis._parsers import _AsyncRESP2Parser

        parser: Any = {"parser_class": _AsyncRESP2Parser} if how == "python parser" else {}
        users = client("redis", "async", redis_url, max_connections=4, **parser)
        backend, pool = adopt(users, coalesce=how == "python parser"), users.connection_pool
    assert sorted(await asyncio.gather(*(backend.eval(increase()) for _ in range(50)))) == list(range(1, 51))
    assert len(pool._available_connections) == 4
    await pool.disconnect()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "many"])
def test_a_wrong_bound_is_named(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_in_flight"):
        adopt(client("redis", "async", "redis://localhost"), max_in_flight=wrong)


async def test_only_the_adopted_kind_is_returned(users: Any) -> None:
    assert isinstance(adopt(users), RedisAsync)
