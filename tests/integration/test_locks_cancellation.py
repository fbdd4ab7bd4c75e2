"""Tasks that are cancelled while they take or hold a lock leave nothing locked."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from holdfast import backends
from holdfast.backends import AsyncBackend, migrations
from holdfast.locks import Lock
from holdfast.operations import Async

TASKS = 100
LONGEST = 0.003
# Nothing ends by itself during the test.
TTL = 300.0


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncBackend]:
    if request.param == "memory":
        url = "memory://"
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/holdfast.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    async with backends.connect_async(url) as backend:
        if request.param == "postgres":
            await migrations.migrate(backend)
        yield backend


async def cancelled_soon(work: Coroutine[Any, Any, None], dice: random.Random) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(dice.uniform(0.0, LONGEST))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def hold(lock: Lock[Async]) -> None:
    async with lock:
        await asyncio.sleep(LONGEST)


@pytest.mark.parametrize("names", [1, TASKS], ids=["one lock for all", "a lock for each"])
async def test_no_lock_is_left_behind(backend: AsyncBackend, names: int) -> None:
    """However many are cancelled while asking, waiting or holding: every lock is free at once afterwards."""
    await hold(Lock(backend, "lock-0", ttl=TTL))
    dice = random.Random(17)
    locks = [Lock(backend, f"lock-{number % names}", ttl=TTL, timeout=5.0) for number in range(TASKS)]
    await asyncio.gather(*(cancelled_soon(hold(lock), dice) for lock in locks))
    for lock in locks[:names]:
        lease = await lock.acquire(timeout=0)
        assert lease is not None, f"{lock!r} is still held"
        await lease.release()


async def test_a_second_cancellation_changes_nothing(backend: AsyncBackend) -> None:
    """Giving back what may have been granted cannot be cancelled away."""
    dice = random.Random(18)

    async def twice(lock: Lock[Async]) -> None:
        task = asyncio.ensure_future(hold(lock))
        for _ in range(3):
            await asyncio.sleep(dice.uniform(0.0, LONGEST / 2))
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    locks = [Lock(backend, f"lock-{number}", ttl=TTL, timeout=5.0) for number in range(TASKS)]
    await asyncio.gather(*(twice(lock) for lock in locks))
    for lock in locks:
        assert await lock.acquire(timeout=0) is not None, f"{lock!r} is still held"


async def test_a_task_cancelled_in_its_block_gives_the_lock_back(backend: AsyncBackend) -> None:
    """The block is left by the cancellation, and the lock is free at once."""
    lock = Lock(backend, "lock", ttl=TTL)
    inside = asyncio.Event()

    async def work() -> None:
        async with lock:
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await inside.wait()
    assert await lock.acquire(timeout=0) is None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lock.acquire(timeout=0) is not None


@pytest.mark.parametrize("turns", range(6))
async def test_a_task_cancelled_while_it_leaves_gives_the_lock_back(backend: AsyncBackend, turns: int) -> None:
    """Wherever the release is when the cancellation comes: not yet sent, on its way, or answered."""
    lock = Lock(backend, "lock", ttl=TTL)

    async def cancel(task: asyncio.Task[Any]) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    async def work() -> asyncio.Task[None]:
        task = asyncio.current_task()
        assert task is not None
        async with lock:
            return asyncio.create_task(cancel(task))

    task = asyncio.ensure_future(work())
    with contextlib.suppress(asyncio.CancelledError):
        await (await task)
    await asyncio.wait([task])
    assert await lock.acquire(timeout=0) is not None


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_release_that_waits_for_a_connection_survives_cancellation(
    backend: AsyncBackend, cancellations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even before anything was sent: the task ends as cancelled, and the lock is free."""
    lock = Lock(backend, "lock", ttl=TTL, heartbeat=False)
    free, waiting = asyncio.Event(), asyncio.Event()
    carry: Any = {"memory": "call", "redis": "eval"}.get(backend.dialect, "query")
    original = getattr(backend, carry)

    async def in_line(request: Any) -> Any:
        waiting.set()
        await free.wait()
        return await original(request)

    async def work() -> None:
        async with lock:
            monkeypatch.setattr(backend, carry, in_line)

    task = asyncio.ensure_future(work())
    await waiting.wait()
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    assert await lock.acquire(timeout=0) is not None
