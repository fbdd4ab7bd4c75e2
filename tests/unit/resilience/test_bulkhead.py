"""The bulkhead: its bounds, its order, and that no slot is ever lost."""

import asyncio
import inspect
import pickle
import random
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import signals
from holdfast.errors import BulkheadFull, ConfigurationError
from holdfast.resilience import Bulkhead, BulkheadRefused, bulkhead
from tests.unit.resilience.virtual_time import VirtualTimeLoop, run


def make(max_concurrent: int = 1, *, max_queue: int = 0, max_wait: float = 1.0) -> Bulkhead:
    """Return a bulkhead."""
    return Bulkhead("dependency", max_concurrent=max_concurrent, max_queue=max_queue, max_wait=max_wait)


async def hold(bulkhead: Bulkhead, seconds: float, entered: list[Any] | None = None, who: Any = None) -> None:
    """Occupy a slot for some time."""
    async with bulkhead:
        if entered is not None:
            entered.append(who)
        await asyncio.sleep(seconds)


def test_without_a_queue_a_full_bulkhead_refuses_at_once() -> None:
    """The refusal is told, carries its facts, and frees nothing."""
    seen: list[BulkheadRefused] = []
    unsubscribe = signals.subscribe(BulkheadRefused, seen.append)
    bulkhead = make(1)
    try:
        with bulkhead, pytest.raises(BulkheadFull, match="1 calls run and 0 wait") as refused, bulkhead:
            pytest.fail("entered")
    finally:
        unsubscribe()
    assert refused.value.facts == {"retry_after": None, "name": "dependency"}
    assert seen == [BulkheadRefused(name="dependency", in_use=1, waiting=0)]
    assert pickle.loads(pickle.dumps(refused.value)).facts == refused.value.facts
    assert bulkhead.in_use == 0


def test_waiters_are_served_in_their_order() -> None:
    """First come, first served, and a newcomer does not overtake the queue."""

    async def main() -> list[int]:
        bulkhead = make(2, max_queue=10, max_wait=100.0)
        entered: list[int] = []
        await asyncio.gather(*(hold(bulkhead, 1.0, entered, number) for number in range(12)))
        assert asyncio.get_running_loop().time() == pytest.approx(6.0)
        assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
        return entered

    assert run(main()) == list(range(12))


def test_the_queue_is_bounded() -> None:
    """Of 5,000 callers, max_concurrent run, max_queue wait, and the others are refused at once."""

    async def main() -> None:
        bulkhead = make(2, max_queue=3, max_wait=2.5)
        results = await asyncio.gather(*(hold(bulkhead, 1.0) for _ in range(5000)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BulkheadFull)]
        assert len(refused) == 4995
        assert {error.retry_after for error in refused} == {2.5}
        assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)

    run(main())


def test_nobody_waits_longer_than_max_wait() -> None:
    """Who waited max_wait is refused and leaves the queue."""

    async def main() -> None:
        bulkhead = make(1, max_queue=2, max_wait=0.5)
        holder = asyncio.create_task(hold(bulkhead, 10.0))
        await asyncio.sleep(0)
        with pytest.raises(BulkheadFull, match=r"no slot within 0\.5 s") as refused:
            await hold(bulkhead, 0.0)
        assert asyncio.get_running_loop().time() == pytest.approx(0.5)
        assert refused.value.retry_after == 0.5
        assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)
        holder.cancel()

    run(main())


@settings(max_examples=200, deadline=None)
@given(
    slots=st.integers(1, 3),
    queue=st.integers(0, 4),
    tasks=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=12),
)
def test_no_slot_is_lost_by_cancellation_at_any_point(
    slots: int, queue: int, tasks: list[tuple[int, int, int]]
) -> None:
    """Tasks that start, work and are cancelled at random moments leave a bulkhead as good as new."""

    async def main() -> None:
        bulkhead = make(slots, max_queue=queue, max_wait=2.0)
        guarded = bulkhead(asyncio.sleep)
        inside = 0
        most = 0

        async def work(seconds: int) -> None:
            nonlocal inside, most
            async with bulkhead:
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.sleep(seconds)
                finally:
                    inside -= 1

        async def life(start: int, seconds: int, cancel_at: int, number: int) -> None:
            await asyncio.sleep(start)
            task = asyncio.ensure_future(guarded(seconds) if number % 2 else work(seconds))
            loop = asyncio.get_running_loop()
            loop.call_at(float(cancel_at), task.cancel)
            await asyncio.gather(task, return_exceptions=True)
            assert bulkhead.waiting <= queue

        await asyncio.gather(*(life(*each, number) for number, each in enumerate(tasks)))
        assert most <= slots
        assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)

    run(main())


@pytest.mark.parametrize("form", ["with", "decorator"])
async def test_a_waiter_cancelled_in_the_instant_it_is_served_hands_the_slot_on(form: str) -> None:
    """The slot was given, its owner is cancelled before it runs again: the next one gets it."""
    bulkhead = make(1, max_queue=2, max_wait=10.0)
    entered: list[int] = []

    @bulkhead
    async def decorated(number: int) -> None:
        entered.append(number)

    async def block(number: int) -> None:
        await hold(bulkhead, 0.0, entered, number)

    wait = decorated if form == "decorator" else block
    async with bulkhead:
        first, second = asyncio.create_task(wait(1)), asyncio.create_task(wait(2))
        await asyncio.sleep(0)
        assert bulkhead.waiting == 2
    assert bulkhead.waiting == 1  # the first was given the slot, and has not run yet
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert entered == [2]
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


async def test_a_newcomer_does_not_overtake_between_the_two_steps_of_leaving() -> None:
    """A leaver has given its slot back and not yet looked at the queue: the slot is still the queue's."""
    bulkhead = make(1, max_queue=2, max_wait=10.0)
    entered: list[str] = []

    @bulkhead
    async def newcomer() -> None:
        entered.append("newcomer")

    await bulkhead.__aenter__()
    waiting = asyncio.create_task(hold(bulkhead, 0.0, entered, "waiting"))
    await asyncio.sleep(0)
    bulkhead._slots.append(None)  # the first step of leaving, in another thread
    await newcomer()
    await waiting
    assert entered == ["waiting", "newcomer"]
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


@pytest.mark.parametrize("leaver", ["this thread", "another thread"])
def test_a_loop_that_was_closed_with_waiters_loses_no_slot(leaver: str) -> None:
    """A waiter whose event loop is gone is skipped, and does not give a slot back that it never had."""
    bulkhead = make(1, max_queue=2, max_wait=10.0)
    loop = VirtualTimeLoop()
    bulkhead.__enter__()
    task = loop.create_task(hold(bulkhead, 0.0))
    loop.run_until_complete(asyncio.sleep(0))
    assert bulkhead.waiting == 1
    loop.close()
    if leaver == "this thread":
        bulkhead.__exit__(None, None, None)
    else:
        thread = threading.Thread(target=bulkhead.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
    task.get_coro().close()  # type: ignore[union-attr]
    assert bulkhead.in_use == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_threads_never_exceed_the_bound() -> None:
    """Twenty threads, four slots: never more than four inside, nobody lost, none left over."""
    bulkhead = make(4, max_queue=20, max_wait=20.0)
    lock = threading.Lock()
    inside = most = 0

    @bulkhead
    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        for _ in range(random.randrange(200)):
            pass
        with lock:
            inside -= 1

    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(work) for _ in range(4000)]
        for future in futures:
            future.result()
    assert most <= 4
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


async def test_threads_and_tasks_share_the_slots() -> None:
    """A thread that leaves wakes a task that waits, on the task's own loop."""
    bulkhead = make(1, max_queue=1, max_wait=10.0)
    inside, leave = threading.Event(), threading.Event()

    def occupy() -> None:
        with bulkhead:
            inside.set()
            leave.wait(5.0)

    thread = asyncio.create_task(asyncio.to_thread(occupy))
    await asyncio.to_thread(inside.wait)
    waiting = asyncio.create_task(hold(bulkhead, 0.0))
    await asyncio.sleep(0)
    assert bulkhead.waiting == 1
    leave.set()
    await asyncio.gather(thread, waiting)
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_a_thread_that_waits_in_vain_is_refused() -> None:
    """Threads are bound by max_wait too."""
    bulkhead = make(1, max_queue=1, max_wait=0.01)
    with bulkhead, pytest.raises(BulkheadFull, match="no slot within"), bulkhead:
        pytest.fail("entered")
    assert bulkhead.in_use == 0


async def test_with_never_blocks_an_event_loop() -> None:
    """Waiting in a sync `with` could stop the very loop that has to free the slot, so it is refused."""
    bulkhead = make(1, max_queue=5)
    with bulkhead, pytest.raises(BulkheadFull, match="use `async with`"), bulkhead:
        pytest.fail("entered")
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_a_slot_comes_back_after_every_end() -> None:
    """Errors and interrupts free the slot as success does."""
    one = make(1)

    @one
    def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError(), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)):
            fail(error)
        assert one.in_use == 0


async def test_the_decorator_makes_one_bulkhead_per_function() -> None:
    """It keeps signature and colour, and names the bulkhead after the function."""

    @bulkhead(max_concurrent=1)
    async def fetch(key: str) -> str:
        await asyncio.sleep(0)
        return key

    assert inspect.iscoroutinefunction(fetch)
    assert str(inspect.signature(fetch)) == "(key: str) -> str"
    assert await fetch("a") == "a"
    with pytest.raises(BulkheadFull, match="fetch' is full"):
        await asyncio.gather(fetch("a"), fetch("b"))


def test_a_generator_is_refused() -> None:
    """Its body would run outside the bulkhead."""

    async def pages() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="@bulkhead cannot guard the generator"):
        bulkhead()(pages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_concurrent": 0}, "max_concurrent=0 is not legal: give a whole number of at least 1"),
        ({"max_queue": -1}, "max_queue=-1 is not legal: give a whole number of at least 0"),
        ({"max_wait": 0}, "max_wait=0 is not legal: give a finite number greater than 0"),
        ({"name": ""}, "name must have"),
    ],
)
def test_wrong_arguments_fail_where_they_are_written(arguments: dict[str, Any], message: str) -> None:
    """Each names the parameter, the value and what is legal."""
    with pytest.raises(ConfigurationError, match=message):
        bulkhead(**arguments)


def test_the_decorator_has_the_defaults_of_the_class() -> None:
    """`bulkhead` and `Bulkhead` cannot drift apart."""
    decorator, cls = inspect.signature(bulkhead).parameters, inspect.signature(Bulkhead).parameters
    assert {n: p.default for n, p in decorator.items() if n != "name"} == {
        n: p.default for n, p in cls.items() if n != "name"
    }
