"""`@locked`: the lock's name comes from the arguments, and mistakes are told when the module is imported."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.backends.memory import MemoryAsync, MemorySync
from holdfast.errors import ConfigurationError, LockNotAcquired
from holdfast.locks import Lease, Lock, locked
from holdfast.operations import Async, Sync

NOW = {"timeout": 0.0}


def test_calls_with_the_same_name_exclude_each_other() -> None:
    backend = MemorySync()

    @locked(backend, "order:{order_id}", timeout=0)
    def ship(order_id: int, *, again: int | None = None) -> str:
        """Ship it."""
        if again is not None:
            ship(again)
        return f"shipped {order_id}"

    assert ship(7) == "shipped 7"
    assert ship(7, again=8) == "shipped 7"
    with pytest.raises(LockNotAcquired, match="order:7"):
        ship(7, again=7)
    assert Lock(backend, "order:7").acquire(timeout=0) is not None, "and free again"
    assert (ship.__name__, ship.__doc__) == ("ship", "Ship it.")


async def test_an_async_function_holds_it_until_its_end() -> None:
    backend = MemoryAsync()
    inside = most = 0

    @locked(backend, "one")
    async def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


def test_the_lease_is_given_to_a_parameter_of_that_name() -> None:
    backend = MemorySync()

    @locked(backend, "{a}:{b.c}:{d[0]}:{e}")
    def work(a: int, b: Any, d: list[int], e: str = "default", *, lease: Lease[Sync]) -> tuple[str, int]:
        return lease.name, lease.token

    calling: Any = work
    assert calling(1, SimpleNamespace(c="x"), d=[3]) == ("1:x:3:default", 1)
    own: Any = SimpleNamespace(name="own", token=99)
    assert work(1, SimpleNamespace(c="x"), [3], lease=own) == ("own", 99)


def test_methods_are_guarded_as_well() -> None:
    backend = MemorySync()

    class Shop:
        name = "corner"

        @locked(backend, "{self.name}:{item}")
        def sell(self, item: str, lease: Lease[Sync] | None = None) -> str:
            assert lease is not None
            return lease.name

    assert Shop().sell("tea") == "corner:tea"


def test_a_call_with_wrong_arguments_takes_no_lock() -> None:
    backend = MemorySync()

    @locked(backend, "n")
    def work(a: int, *, lease: Lease[Sync]) -> None: ...

    calling: Any = work
    with pytest.raises(TypeError, match="'a'"):
        calling()
    assert not backend.state._tables


async def test_a_client_may_be_made_when_it_is_first_needed() -> None:
    made: list[MemoryAsync] = []

    def make() -> MemoryAsync:
        made.append(MemoryAsync())
        return made[-1]

    @locked(make, "n")
    async def work(lease: Lease[Async] | None = None) -> int:
        assert lease is not None
        return lease.token

    assert made == []
    assert [await work(), await work()] == [1, 2]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("order:{id}", r"\{id\}, which .*function has not: legal is \{order_id\}"),
        ("order:{}", r"names \{\}"),
        ("order:{lease}", r"names \{lease\}"),
        ("order:{order_id", "expected '}'"),
        ("", "1 to 255"),
    ],
)
def test_a_wrong_name_is_told_at_the_decoration(name: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):

        @locked(MemorySync(), name)
        def function(order_id: int, lease: Any = None) -> None: ...


def test_wrong_colours_and_options_are_told_at_the_decoration() -> None:
    async def awaited() -> None: ...

    def blocking() -> None: ...

    def generator() -> Any:
        yield

    with pytest.raises(ConfigurationError, match="awaited is async, so it needs an asyncio client"):
        locked(MemorySync(), "n")(awaited)
    with pytest.raises(ConfigurationError, match="blocking is blocking, so it needs a blocking client"):
        locked(MemoryAsync(), "n")(blocking)
    with pytest.raises(ConfigurationError, match="generator function"):
        locked(MemorySync(), "n")(generator)
    with pytest.raises(ConfigurationError, match="ttl=0"):
        locked(MemorySync(), "n", ttl=0)(blocking)
