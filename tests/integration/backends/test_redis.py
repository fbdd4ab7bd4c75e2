"""The Redis backend on a healthy server: what is sent, what comes back, and what it costs others."""

import asyncio
import importlib
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from enum import Enum

import pytest

import holdfast.backends
from holdfast.backends.redis import Command, adopt, physical_key
from holdfast.errors import ConfigurationError
from holdfast.testing.services import RedisServer
from tests.conftest import started
from tests.integration.backends.redis_backends import (
    COLOURS,
    LIBRARIES,
    Backend,
    ask,
    client,
    close,
    connect,
    done,
    echo,
    increase,
    taken,
)

KEY = b"holdfast:test:{echo}"


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def backend(colour: str, redis_url: str) -> AsyncIterator[Backend]:
    opened = connect(colour, redis_url)
    yield opened
    await close(opened)


@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"protocol": 3}, {"protocol": 3, "encoding": "latin-1", "decode_responses": True}],
    ids=str,
)
async def test_decode_sees_the_same_reply_whatever_the_client_is_set_to(
    library: str, colour: str, options: dict[str, object], redis_url: str
) -> None:
    users = client(library, colour, redis_url, **options)
    backend = holdfast.backends.adopt(users)
    reply = await ask(backend, echo("ü"))
    assert reply == ["ü".encode(), 42, None, [KEY, b"nested"]]
    await close(users)


async def test_a_script_is_one_round_trip_once_the_server_knows_it(backend: Backend, redis_url: str) -> None:
    await ask(backend, increase())
    before = await commands(backend)
    await ask(backend, increase())
    after = await commands(backend)
    assert after - before == 2  # the script and the question itself


async def commands(backend: Backend) -> int:
    stats = await ask(backend, Command(["INFO", "commandstats"], writes=False))
    # Commands of scripts are counted too, and our script has one.
    calls = {
        line.split(b":")[0]: int(line.split(b"calls=")[1].split(b",")[0]) for line in stats.split() if b"calls=" in line
    }
    return sum(calls.values()) - calls.get(b"cmdstat_incr", 0)


async def test_a_script_survives_script_flush(backend: Backend) -> None:
    assert await ask(backend, increase()) == 1
    await ask(backend, Command(["SCRIPT", "FLUSH"], writes=True))
    assert await ask(backend, increase()) == 2


async def test_a_command_gets_its_reply_and_bytes_stay_bytes(backend: Backend) -> None:
    await ask(backend, Command(["SET", "k", b"\xff\x00", "PX", 60_000], writes=True))
    assert await ask(backend, Command(["GET", "k"], writes=False)) == b"\xff\x00"
    assert await ask(backend, Command(["STRLEN", "k"], bool, writes=False)) is True


async def test_a_blocking_command_may_take_longer_than_the_deadline(colour: str, redis_url: str) -> None:
    backend = connect(colour, redis_url, timeout=0.2)
    assert await ask(backend, Command(["BLPOP", "nothing", "0.5"], writes=True, wait=0.5)) is None
    await close(backend)


async def test_a_broken_script_raises_what_redis_says_and_names_the_request(backend: Backend) -> None:
    import redis

    await ask(backend, Command(["LPUSH", physical_key("test", "list"), "x"], writes=True))
    with pytest.raises(redis.ResponseError, match="WRONGTYPE") as caught:
        await ask(backend, increase("list"))
    assert "Eval(increase" in caught.value.__notes__[0]


async def test_nested_arguments_are_refused_before_anything_is_sent(backend: Backend) -> None:
    with pytest.raises(TypeError, match="str, "):
        await ask(backend, Command(["SET", "k", ["v"]], writes=True))  # type: ignore[list-item]


async def test_the_users_client_stays_open_and_as_it_was(library: str, colour: str, redis_url: str) -> None:
    users = client(library, colour, redis_url, socket_timeout=3.0)
    backend = holdfast.backends.adopt(users, timeout=0.5)
    await ask(backend, increase())
    await close(backend)
    assert await done(users.ping())
    if colour == "sync":
        connection = taken(users.connection_pool)
        assert connection._sock.gettimeout() == connection.socket_timeout == 3.0
        assert connection.retry is not None
        users.connection_pool.release(connection)
    assert len(users.connection_pool._available_connections) == 1
    await close(users)


async def test_within_shares_connections(backend: Backend) -> None:
    await ask(backend, increase())
    quick = backend.within(0.5)
    connections = await ask(backend, Command(["CLIENT", "LIST", "TYPE", "normal"], writes=False))
    assert await ask(quick, Command(["CLIENT", "LIST", "TYPE", "normal"], writes=False)) != b""
    assert quick.timeout == 0.5
    assert connections.count(b"cmd=evalsha") + connections.count(b"cmd=eval ") == 0


async def test_more_tasks_than_connections_wait_for_their_turn(redis_url: str) -> None:
    users = client("redis", "async", redis_url, max_connections=3)
    backend = adopt(users, coalesce=False)
    counted = await asyncio.gather(*[ask(backend, increase()) for _ in range(300)])
    assert sorted(counted) == list(range(1, 301))
    assert len(users.connection_pool._available_connections) == 3
    await close(users)


@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
def test_threads_share_a_pool_and_never_get_each_others_replies(library: str, pool: str, redis_url: str) -> None:
    module = importlib.import_module(library)
    kind = module.Valkey if library == "valkey" else module.Redis
    users = kind(connection_pool=getattr(module, pool).from_url(redis_url, max_connections=4))
    backend = holdfast.backends.adopt(users)
    wrong: list[object] = []

    def work(number: int) -> None:
        asked = [f"{number}.{turn}".encode() for turn in range(50)]
        got = [echo(text.decode()).carry(backend)[0] for text in asked]
        wrong.extend(set(got) - set(asked))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    users.close()


def test_a_forked_child_has_connections_of_its_own(redis_url: str) -> None:
    backend = connect("sync", redis_url)
    increase().carry(backend)
    pid = os.fork()
    if pid == 0:
        right = all(echo(f"child {n}").carry(backend)[0] == f"child {n}".encode() for n in range(100))
        os._exit(0 if right else 1)
    assert all(echo(f"parent {n}").carry(backend)[0] == f"parent {n}".encode() for n in range(100))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    backend.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
async def test_redis_pys_own_count_of_connections_stays_right(
    pool: str, colour: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "redis.observability.recorder" if colour == "sync" else "redis.asyncio.observability.recorder"
    recorder = pytest.importorskip(name, reason="redis-py counts connections since version 8")
    counts: Counter[tuple[str, str]] = Counter()

    class Collector:
        def record_connection_count(self, *, pool_name: str, connection_state: Enum, counter: int) -> None:
            counts[pool_name, connection_state.name] += counter

        def __getattr__(self, name: str) -> object:
            return lambda **_: None

    attribute = "_metrics_collector" if colour == "sync" else "_async_metrics_collector"
    if not hasattr(recorder, attribute):
        pytest.skip("redis-py counts connections since version 8")
    module = importlib.import_module("redis" if colour == "sync" else "redis.asyncio")
    users = module.Redis.from_pool(getattr(module, pool).from_url(redis_url))
    monkeypatch.setattr(recorder, attribute, Collector())
    for _ in range(3):
        await ask(holdfast.backends.adopt(users), increase())
    # Pools of earlier tests may be counted down meanwhile, when they are collected.
    name = importlib.import_module("redis.observability.attributes").get_pool_name(users.connection_pool)
    assert (counts[name, "USED"], counts[name, "IDLE"]) == (0, 1)
    monkeypatch.undo()
    await close(users)


@pytest.mark.parametrize("make", ["pipeline", "pubsub"])
async def test_what_is_no_client_is_refused(library: str, colour: str, make: str, redis_url: str) -> None:
    users = client(library, colour, redis_url)
    with pytest.raises(ConfigurationError, match="give a client"):
        holdfast.backends.adopt(getattr(users, make)())
    await close(users)


async def test_a_backend_names_its_place_without_secrets(library: str, colour: str, redis_url: str) -> None:
    users = client(library, colour, redis_url.replace("redis://", "redis://:hunter2@"))
    assert "hunter2" not in repr(holdfast.backends.adopt(users))
    assert repr(holdfast.backends.adopt(users)).endswith(redis_url.rpartition("@")[2].removeprefix("redis://") + ">")
    await close(users)


class ServerWithSocket(RedisServer):
    """A Redis that can be reached through a file, too."""

    @property
    def path(self) -> str:
        return str(self.folder / "socket")

    def _command(self, port: int) -> list[str]:
        return [*super()._command(port), "--unixsocket", self.path]


async def test_a_unix_socket_works_too(library: str, colour: str) -> None:
    server = ServerWithSocket()
    started(server.start)
    try:
        users = client(library, colour, f"unix://{server.path}")
        opened = connect(colour, f"redis+unix://{server.path}?db=1")
        for backend in (holdfast.backends.adopt(users), opened):
            assert (await ask(backend, echo("x")))[0] == b"x"
            assert repr(backend).endswith(f"redis+unix://{server.path}>")
        await close(users)
        await close(opened)
    finally:
        server.stop()
