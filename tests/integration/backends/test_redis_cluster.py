"""A cluster: requests find their node, follow slots that move, and survive the loss of a node."""

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdfast.backends
from holdfast.backends.redis import Command, Eval, physical_key
from holdfast.backends.redis.keys import slot_of
from holdfast.errors import BackendError, BackendUnavailable, OutcomeUnknown
from holdfast.testing.services import RedisServer
from holdfast.testing.services.process import eventually
from tests.conftest import started
from tests.integration.backends.redis_backends import COLOURS, INCREASE, LIBRARIES, Backend, ask, close, connect

DEADLINE = 0.6
GRACE = 0.25
HALF = 8192


class Node(RedisServer):
    """One node of a cluster that the test puts together."""

    def __init__(self) -> None:
        super().__init__(cluster=True)

    def _command(self, port: int) -> list[str]:
        return [*super()._command(port), "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]

    def _cluster_answers(self) -> bool:
        return True  # on its own it has no slots yet

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    def healthy(self, nodes: int) -> bool:
        about = str(self.ask("CLUSTER", "INFO"))
        return "cluster_state:ok" in about and f"cluster_known_nodes:{nodes}" in about


@pytest.fixture(scope="module")
def shared_nodes() -> Iterator[list[Node]]:
    nodes = [Node() for _ in range(3)]
    started(lambda: [node.start() for node in nodes])
    yield nodes
    for node in nodes:
        node.stop()


@pytest.fixture
def nodes(shared_nodes: list[Node]) -> list[Node]:
    """Return three empty nodes: two that hold half of the slots each, and one that holds none."""
    for node in shared_nodes:
        node.start()
        node.resume()
        # Since Redis 7 a node that gave away its last slot makes itself a replica, unless it is told not to.
        with contextlib.suppress(RuntimeError):
            node.ask("CONFIG", "SET", "cluster-allow-replica-migration", "no")
    if not all(_as_made(node, shared_nodes) for node in shared_nodes):
        _make_cluster(shared_nodes)
    for node in shared_nodes:
        node.ask("FLUSHALL")
    return shared_nodes


def _as_made(node: Node, nodes: list[Node]) -> bool:
    slots = node.ask("CLUSTER", "SLOTS")
    assert isinstance(slots, list)
    ranges = [(start, end, [address[1] for address in holders]) for start, end, *holders in slots]  # type: ignore[misc]
    made = [(number * HALF, (number + 1) * HALF - 1, [nodes[number].port]) for number in range(2)]
    master = "role:master" in str(node.ask("INFO", "replication"))
    return sorted(ranges) == made and master and node.healthy(3)


def _make_cluster(nodes: list[Node]) -> None:
    for number, node in enumerate(nodes):
        eventually(lambda node=node: _reset(node), seconds=5)
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
    for number, node in enumerate(nodes[:2]):
        node.ask("CLUSTER", "ADDSLOTS", *map(str, range(number * HALF, (number + 1) * HALF)))
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", node.host, str(node.port))
    assert eventually(lambda: all(_as_made(node, nodes) for node in nodes), seconds=20)


def _reset(node: Node) -> bool:
    # What was a replica refuses to be emptied.
    if "role:slave" not in str(node.ask("INFO", "replication")):
        node.ask("FLUSHALL")
    return node.ask("CLUSTER", "RESET", "HARD") == "OK"


def name_in(low: int, high: int) -> str:
    return next(name for name in map(str, range(100_000)) if low <= slot_of(physical_key("test", name)) < high)


FIRST, SECOND = name_in(0, HALF), name_in(HALF, 2 * HALF)


def increase(name: str) -> Eval[int]:
    return Eval(INCREASE, [physical_key("test", name), physical_key("test", name, suffix=":more")], [], int)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*LIBRARIES, "url"])
async def adopted(request: pytest.FixtureRequest, colour: str, nodes: list[Node]) -> Any:
    """Yield a backend on the cluster: on the client of a library, or opened from a URL."""
    first = nodes[0]
    if request.param == "url":
        backend = connect(colour, f"redis+cluster://{first.host}:{first.port}", timeout=DEADLINE)
        yield backend
        await close(backend)
        return
    users = cluster_client(request.param, colour, first)
    yield holdfast.backends.adopt(users, timeout=DEADLINE)
    await close(users)


def cluster_client(library: str, colour: str, node: RedisServer) -> Any:
    module = importlib.import_module(library if colour == "sync" else f"{library}.asyncio")
    kind = module.ValkeyCluster if library == "valkey" else module.RedisCluster
    # In the sync clients this connects, with retries and time-outs of their own.
    return kind(host=node.host, port=node.port)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_cluster_of_one_node_works(colour: str, library: str, redis_cluster: RedisServer) -> None:
    redis_cluster.empty()
    users = cluster_client(library, colour, redis_cluster)
    backends = [holdfast.backends.adopt(users), connect(colour, redis_cluster.connect_url)]
    for expected, backend in enumerate(backends, start=1):
        assert await ask(backend, increase(FIRST)) == expected
        assert await ask(backend, increase(SECOND)) == expected
    assert repr(backends[1]).endswith(f" redis+cluster://127.0.0.1:{redis_cluster.port}>")
    await close(users)
    await close(backends[1])


async def test_each_request_goes_to_the_node_of_its_key(adopted: Backend, nodes: list[Node]) -> None:
    for expected in (1, 2, 3):
        assert await ask(adopted, increase(FIRST)) == expected
        assert await ask(adopted, increase(SECOND)) == expected
    stream = physical_key("test", SECOND, suffix=":stream")
    await ask(adopted, Command(["XADD", stream, "*", "a", "b"], writes=True))
    read = Command(["XREAD", "STREAMS", stream, "0"], len, writes=False, key=stream)
    assert await ask(adopted, read) == 1
    assert [node.ask("DBSIZE") for node in nodes] == [1, 2, 0]


async def test_many_tasks_at_once_start_a_cluster_client_once(nodes: list[Node]) -> None:
    backend = connect("async", f"redis+cluster://{nodes[0].host}:{nodes[0].port}")
    counts = await asyncio.gather(*[ask(backend, increase(FIRST)) for _ in range(200)])
    assert sorted(counts) == list(range(1, 201))
    await close(backend)


@pytest.mark.parametrize("target", [1, 2], ids=["known node", "node without slots"])
async def test_a_slot_that_has_moved_is_followed(adopted: Backend, nodes: list[Node], target: int) -> None:
    slot = str(slot_of(physical_key("test", FIRST)))
    assert await ask(adopted, increase(SECOND)) == 1  # so that the map is read
    try:
        for node in (nodes[target], *nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", nodes[target].id)
        for expected in range(1, 6):
            assert await ask(adopted, increase(FIRST)) == expected
        assert nodes[target].ask("EXISTS", physical_key("test", FIRST)) == 1
    finally:
        nodes[target].ask("FLUSHALL")
        for node in nodes:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", nodes[0].id)


async def test_a_slot_on_its_way_is_asked_for_at_its_new_home(adopted: Backend, nodes: list[Node]) -> None:
    slot = str(slot_of(physical_key("test", FIRST)))
    assert await ask(adopted, increase(SECOND)) == 1
    nodes[1].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[0].id)
    nodes[0].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[1].id)
    try:
        for expected in range(1, 4):
            assert await ask(adopted, Command(["INCR", physical_key("test", FIRST)], writes=True)) == expected
        # Only one of its two keys has arrived: the node cannot tell which copy of the other counts.
        with pytest.raises(BackendUnavailable, match=r"TryAgain|TRYAGAIN"):
            await ask(adopted, increase(FIRST))
    finally:
        for node in nodes[:2]:
            node.ask("CLUSTER", "SETSLOT", slot, "STABLE")


async def test_a_frozen_node_does_not_stop_the_others(adopted: Backend, nodes: list[Node]) -> None:
    assert [await ask(adopted, increase(name)) for name in (FIRST, SECOND)] == [1, 1]
    nodes[1].pause()
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await ask(adopted, increase(SECOND))
    assert DEADLINE <= time.monotonic() - began < DEADLINE + GRACE
    assert await ask(adopted, increase(FIRST)) == 2
    nodes[1].resume()
    assert await until_answered(lambda: ask(adopted, increase(SECOND))) == 3


async def test_a_replica_that_takes_over_is_found(adopted: Backend, nodes: list[Node]) -> None:
    assert [await ask(adopted, increase(name)) for name in (FIRST, SECOND)] == [1, 1]
    nodes[2].ask("CLUSTER", "REPLICATE", nodes[0].id)
    assert eventually(lambda: nodes[2].ask("DBSIZE") == 1, seconds=10)
    nodes[0].kill()
    with pytest.raises(BackendUnavailable):
        await ask(adopted, increase(FIRST))
    nodes[2].ask("CLUSTER", "FAILOVER", "TAKEOVER")
    assert await until_answered(lambda: ask(adopted, increase(FIRST))) == 2
    assert await ask(adopted, increase(SECOND)) == 2


async def test_a_cluster_that_is_away_is_unavailable_at_the_deadline(colour: str, nodes: list[Node]) -> None:
    backend = connect(colour, f"redis+cluster://{nodes[0].host}:{nodes[0].port}", timeout=DEADLINE)
    nodes[0].pause()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await ask(backend, increase(FIRST))
    assert time.monotonic() - began < DEADLINE + GRACE
    nodes[0].resume()
    assert await until_answered(lambda: ask(backend, increase(FIRST))) == 1
    await close(backend)


async def until_answered(request: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Try again while the cluster settles."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await request()
        except BackendError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)
