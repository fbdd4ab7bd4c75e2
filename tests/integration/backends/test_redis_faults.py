"""A server that dies, hangs, restarts or refuses: the right one of the two errors, within the deadline."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import holdfast.backends
from holdfast.backends.redis import Command, _background
from holdfast.errors import BackendUnavailable, OutcomeUnknown
from holdfast.testing.services import RedisServer
from tests.integration.backends.redis_backends import (
    COLOURS,
    LIBRARIES,
    ask,
    client,
    close,
    connect,
    echo,
    increase,
    spin,
    taken,
)

# What an answer may come too late by, on a machine that does other things too.
GRACE = 0.25
DEADLINE = 0.4


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(own_redis_server: RedisServer) -> RedisServer:
    return own_redis_server


async def test_a_server_killed_before_the_request_is_unavailable(
    library: str, colour: str, server: RedisServer
) -> None:
    users = client(library, colour, server.url)
    backend = holdfast.backends.adopt(users, timeout=2.0)
    await ask(backend, increase())
    server.kill()
    started = time.monotonic()
    with pytest.raises(BackendUnavailable) as caught:
        await ask(backend, increase())
    # The client's own retries would take seconds.
    assert time.monotonic() - started < 0.5
    assert caught.value.backend == f"redis://127.0.0.1:{server.port}/0"
    assert caught.value.operation == "increase"
    await close(users)


async def test_a_server_killed_while_it_works_leaves_the_outcome_unknown(colour: str, server: RedisServer) -> None:
    backend = connect(colour, server.url, timeout=3.0)
    await ask(backend, increase())
    threading.Timer(0.2, server.kill).start()
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown) as caught:
        await ask(backend, spin(1_000))
    assert time.monotonic() - started < 1.0
    assert caught.value.operation == "spin"
    await close(backend)


async def test_a_read_that_got_no_answer_is_only_unavailable(colour: str, server: RedisServer) -> None:
    backend = connect(colour, server.url, timeout=DEADLINE)
    await ask(backend, echo("x"))
    server.pause()
    with pytest.raises(BackendUnavailable):
        await ask(backend, echo("x"))
    await close(backend)


async def test_a_frozen_server_leaves_the_outcome_unknown_at_the_deadline(
    library: str, colour: str, server: RedisServer
) -> None:
    # This client would wait for ever.
    users = client(library, colour, server.url, socket_timeout=None, socket_connect_timeout=None)
    backend = holdfast.backends.adopt(users, timeout=DEADLINE)
    await ask(backend, increase())
    server.pause()
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await ask(backend, increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    # The unfinished reply must not be given to the next request.
    server.resume()
    assert await ask(backend, echo("mine")) == [b"mine", 42, None, [b"holdfast:test:{echo}", b"nested"]]
    assert await ask(backend, increase()) == 3
    await close(users)


async def test_logging_in_to_a_frozen_server_ends_at_the_deadline(
    library: str, colour: str, server: RedisServer
) -> None:
    users = client(library, colour, server.url, socket_timeout=None, socket_connect_timeout=None, client_name="x")
    backend = holdfast.backends.adopt(users, timeout=DEADLINE)
    server.pause()
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(backend, increase())
    assert time.monotonic() - started < DEADLINE + GRACE
    server.resume()
    assert await ask(backend, increase()) == 1
    await close(users)


@pytest.fixture
def late_port() -> Iterator[int]:
    """Yield a port where every command of a login is answered, each `DEADLINE / 2` late."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                while request := peer.recv(65536):
                    for _ in range(sum(line.startswith(b"*") for line in request.split(b"\r\n"))):
                        time.sleep(DEADLINE / 2)
                        peer.send(b"+OK\r\n")

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_logging_in_with_many_late_answers_ends_at_the_deadline(
    library: str, colour: str, late_port: int
) -> None:
    """Each answer comes in time for itself; all of them together do not."""
    url = f"redis://:secret@127.0.0.1:{late_port}/3"
    users = client(library, colour, url, client_name="x", protocol=2)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(holdfast.backends.adopt(users, timeout=DEADLINE), increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    await close(users)


class Lookups:
    """Stands in for `socket.getaddrinfo` and keeps its answers back until `go_on` is set."""

    def __init__(self) -> None:
        self.real = socket.getaddrinfo
        self.go_on = threading.Event()
        self.asked = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        self.go_on.wait(30)
        return self.real(*arguments, **options)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookups]:
    slow = Lookups()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.go_on.set()


async def test_a_name_lookup_that_hangs_ends_at_the_deadline(
    library: str, colour: str, server: RedisServer, lookups: Lookups
) -> None:
    """And the name is found again once lookups are answered."""
    users = client(library, colour, f"redis://localhost:{server.port}/0")
    backend = holdfast.backends.adopt(users, timeout=DEADLINE)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(backend, increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    lookups.go_on.set()
    assert await ask(backend, increase()) == 1
    await close(users)


def test_lookups_that_hang_do_not_pile_up(
    server: RedisServer, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many threads hang in them, however many requests are given up meanwhile; the others keep the deadline too."""
    monkeypatch.setattr(_background, "MOST_OPENINGS", 3)
    users = client("redis", "sync", f"redis://localhost:{server.port}/0")
    backend = holdfast.backends.adopt(users, timeout=0.05)
    started = time.monotonic()
    for _ in range(10):
        with pytest.raises(BackendUnavailable):
            increase().carry(backend)
    assert time.monotonic() - started < 10 * 0.05 + GRACE
    assert lookups.asked == 3
    lookups.go_on.set()
    assert increase().carry(backend) == 1
    users.close()


def test_a_socket_that_was_opened_too_late_is_closed() -> None:
    """Nobody is left to take it."""
    mine, other = socket.socketpair()
    go_on = threading.Event()

    def connect() -> socket.socket:
        go_on.wait(30)
        return mine

    opening = _background.Opening()
    with other:
        with pytest.raises(TimeoutError):
            opening(connect, time.monotonic() + 0.01)
        go_on.set()
        assert other.recv(1) == b""


def test_a_process_that_can_start_no_thread_connects_all_the_same(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    users = client("redis", "sync", f"redis://localhost:{server.port}/0")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert increase().carry(holdfast.backends.adopt(users)) == 1
    users.close()


@pytest.fixture
def full_listener() -> Iterator[int]:
    """Yield a port whose backlog is full, so that connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


async def test_connecting_to_a_host_that_does_not_answer_ends_at_the_deadline(
    library: str, colour: str, full_listener: int
) -> None:
    url = f"redis://127.0.0.1:{full_listener}/0"
    users = client(library, colour, url, socket_timeout=None, socket_connect_timeout=None)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(holdfast.backends.adopt(users, timeout=DEADLINE), increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    await close(users)


@pytest.fixture
def trickling_port() -> Iterator[int]:
    """Yield a port that takes any request and answers one byte every 50 ms: a link that nearly died."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)
        end = threading.Event()

        def answer() -> None:
            while not end.is_set():
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    while b"SETINFO" in (request := peer.recv(65536)):
                        peer.send(b"+OK\r\n" * request.count(b"SETINFO"))
                    for byte in b"$400\r\n" + b"x" * 400:
                        if end.wait(0.05):
                            return
                        try:
                            peer.send(bytes([byte]))
                        except OSError:
                            break

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        end.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("parser", ["C", "Python"])
async def test_a_reply_that_trickles_in_ends_at_the_deadline_too(colour: str, parser: str, trickling_port: int) -> None:
    from redis import _parsers

    kind = {
        ("C", "sync"): _parsers._HiredisParser,
        ("C", "async"): _parsers._AsyncHiredisParser,
        ("Python", "sync"): _parsers._RESP2Parser,
        ("Python", "async"): _parsers._AsyncRESP2Parser,
    }
    users = client(
        "redis",
        colour,
        f"redis://127.0.0.1:{trickling_port}/0",
        parser_class=kind[parser, colour],
        protocol=2,
    )
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await ask(holdfast.backends.adopt(users, timeout=DEADLINE), increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    await close(users)


async def test_a_restart_between_two_requests_is_not_noticed(library: str, colour: str, server: RedisServer) -> None:
    users = client(library, colour, server.url)
    backend = holdfast.backends.adopt(users)
    assert await ask(backend, increase()) == 1
    server.restart()
    assert await ask(backend, increase()) == 2
    await close(users)


async def test_connections_that_the_server_closed_are_replaced(library: str, colour: str, server: RedisServer) -> None:
    users = client(library, colour, server.url)
    backend = holdfast.backends.adopt(users)
    for count in range(1, 20):
        assert await ask(backend, increase()) == count
        server.ask("CLIENT", "KILL", "TYPE", "normal")
    await close(users)


async def test_a_connection_idle_for_too_long_is_replaced(colour: str, server: RedisServer) -> None:
    users = client("redis", colour, server.url, health_check_interval=1)
    backend = holdfast.backends.adopt(users)
    first = await ask(backend, Command(["CLIENT", "ID"], writes=False))
    assert await ask(backend, Command(["CLIENT", "ID"], writes=False)) == first
    await asyncio.sleep(1.1)
    assert await ask(backend, Command(["CLIENT", "ID"], writes=False)) != first
    await close(users)


async def test_a_busy_server_has_not_done_it(colour: str, server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "lua-time-limit", "20")
    backend = connect(colour, server.url)
    spinner = connect("sync", server.url)
    await ask(backend, increase())
    thread = threading.Thread(target=lambda: spin(600).carry(spinner))
    thread.start()
    await asyncio.sleep(0.2)
    with pytest.raises(BackendUnavailable, match="BUSY"):
        await ask(backend, increase())
    thread.join()
    assert await ask(backend, increase()) == 2
    await close(backend)
    await close(spinner)


@pytest.mark.parametrize(
    "trouble",
    [
        ("READONLY", ("REPLICAOF", "127.0.0.1", "1")),
        ("OOM", ("CONFIG", "SET", "maxmemory", "1")),
    ],
    ids=["replica", "memory"],
)
async def test_a_server_that_takes_no_writes_has_not_done_it(
    library: str, colour: str, trouble: tuple[str, tuple[str, ...]], server: RedisServer
) -> None:
    code, command = trouble
    users = client(library, colour, server.url)
    backend = holdfast.backends.adopt(users)
    await ask(backend, increase())
    server.ask(*command)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="not applied"):
            await ask(backend, increase())
    with pytest.raises(BackendUnavailable):
        await ask(backend, Command(["SET", "k", "v"], writes=True))
    if code == "READONLY":
        server.ask("REPLICAOF", "NO", "ONE")
        assert await ask(backend, increase()) == 2
    await close(users)


async def test_a_server_without_its_replicas_has_not_done_it(colour: str, server: RedisServer) -> None:
    backend = connect(colour, server.url)
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(BackendUnavailable, match="NOREPLICAS"):
        await ask(backend, Command(["SET", "k", "v"], writes=True))
    await close(backend)


async def test_a_server_that_is_full_of_clients_has_not_done_it(library: str, colour: str, server: RedisServer) -> None:
    others = client(library, "sync", server.url)
    held = [taken(others.connection_pool) for _ in range(3)]
    for connection in held:
        connection.send_command("PING")
        connection.read_response()
    server.ask("CONFIG", "SET", "maxclients", "3")
    users = client(library, colour, server.url)
    with pytest.raises(BackendUnavailable):
        await ask(holdfast.backends.adopt(users), increase())
    for connection in held:
        connection.disconnect()
    await close(users)


async def test_a_full_pool_is_unavailable_at_the_deadline(colour: str, server: RedisServer) -> None:
    users = client("redis", colour, server.url, max_connections=1)
    backend = holdfast.backends.adopt(users, timeout=DEADLINE)
    held = taken(users.connection_pool)
    connection = await held if colour == "async" else held
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match="Timeout"):
        await ask(backend, increase())
    assert DEADLINE <= time.monotonic() - started < DEADLINE + GRACE
    released = users.connection_pool.release(connection)
    if released is not None:
        await released
    assert await ask(backend, increase()) == 1
    await close(users)
