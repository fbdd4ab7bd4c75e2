"""The fair pool: first come, first served, for threads and tasks alike; nothing lost, nothing lent twice."""

import asyncio
import contextlib
import random
import threading

import pytest

from holdfast.backends._fair import FairPool


def test_what_is_free_is_lent_at_once() -> None:
    pool = FairPool([1])
    assert pool.take_now() == (1,)
    assert pool.take_now() is None
    pool.give(1)
    assert pool.take(0) == 1


def test_none_can_be_lent() -> None:
    pool = FairPool([None])
    assert pool.take_now() == (None,)


def test_waiting_ends_with_the_time() -> None:
    pool: FairPool[int] = FairPool([])
    with pytest.raises(TimeoutError):
        pool.take(0.01)
    pool.give(1)
    assert pool.take(0) == 1


async def test_tasks_are_served_in_order() -> None:
    pool = FairPool([0])
    order: list[int] = []

    async def use(number: int) -> None:
        item = await pool.take_async(1.0)
        order.append(number)
        await asyncio.sleep(0)
        pool.give(item)

    item = await pool.take_async(1.0)
    tasks = [asyncio.create_task(use(number)) for number in range(10)]
    await asyncio.sleep(0)
    pool.give(item)
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_a_cancelled_task_takes_nothing_with_it() -> None:
    pool = FairPool([0])
    dice = random.Random(3)

    async def use() -> None:
        item = await pool.take_async(1.0)
        try:
            await asyncio.sleep(0)
        finally:
            pool.give(item)

    for _ in range(200):
        tasks = [asyncio.create_task(use()) for _ in range(5)]
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        for task in dice.sample(tasks, 3):
            task.cancel()
        await asyncio.wait(tasks)
    assert pool.take_now() == (0,)
    assert not pool._waiters


def test_a_task_whose_event_loop_is_gone_is_passed_over() -> None:
    pool = FairPool([0])
    assert pool.take(0) == 0
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(pool.take_async(10.0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    pool.give(0)
    assert pool.take(0) == 0
    del waiting


class Watched:
    """A pool that notices when something is lent twice."""

    def __init__(self) -> None:
        self.pool = FairPool([0, 1])
        self.held: set[int] = set()
        self.faults: list[str] = []

    def hold(self, item: int) -> None:
        if item in self.held:
            self.faults.append(f"{item} is lent twice")
        self.held.add(item)

    def drop(self, item: int) -> None:
        self.held.discard(item)
        self.pool.give(item)

    def from_a_thread(self, seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(400):
            with contextlib.suppress(TimeoutError):
                item = self.pool.take(dice.choice([0.0, 0.0005, 5.0]))
                self.hold(item)
                self.drop(item)

    async def from_a_task(self) -> None:
        for _ in range(200):
            item = await self.pool.take_async(5.0)
            self.hold(item)
            await asyncio.sleep(0)
            self.drop(item)


async def test_threads_and_tasks_never_hold_the_same_item() -> None:
    watched = Watched()
    threads = [threading.Thread(target=watched.from_a_thread, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(watched.from_a_task() for _ in range(4)))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert watched.faults == []
    assert sorted(watched.pool._items) == [0, 1]
