"""Endless steps beside the caller, in threads and on the loop."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
import redis

from holdfast import background
from holdfast.backends import adopt
from holdfast.backends.memory import MemoryAsync, MemorySync
from holdfast.operations import Run, Sleep, Steps


def ticking(beats: list[int], done: threading.Event | None = None, *, every: float = 0.005) -> Steps[None]:
    """Note a beat again and again."""
    while True:
        yield Sleep(every)
        beats.append(len(beats))
        if done is not None and len(beats) == 3:
            done.set()


def test_steps_go_on_in_a_thread_until_stopped() -> None:
    """They run while the caller does something else, and not after stop()."""
    beats: list[int] = []
    done = threading.Event()
    stop = MemorySync().background(ticking(beats, done))
    assert done.wait(5)
    stop()
    stop()


def test_a_blocked_step_does_not_hold_up_the_others() -> None:
    """One store that does not answer must not let other leases run out."""
    gate = threading.Event()
    beats: list[int] = []
    done = threading.Event()

    def stuck() -> Steps[None]:
        yield Sleep(0.001)
        yield from Run(gate.wait, 10)

    driver = MemorySync()
    stops = [driver.background(stuck()) for _ in range(4)]
    stop = driver.background(ticking(beats, done))
    assert done.wait(5)
    gate.set()
    for each in [*stops, stop]:
        each()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "holdfast-background"]


@pytest.fixture
def ticker(monkeypatch: pytest.MonkeyPatch) -> background._Ticker:
    """Return a ticker of this test's own."""
    ticker = background._Ticker()
    monkeypatch.setattr(background, "_ticker", ticker)
    return ticker


def test_a_store_that_hangs_holds_up_no_other_store(ticker: background._Ticker) -> None:
    """However many leases it has: their threads are bounded, and another store has threads of its own."""
    gate = threading.Event()
    beats: list[int] = []
    done = threading.Event()
    before = len(workers())

    def stuck() -> Steps[None]:
        yield Sleep(0.001)
        yield from Run(gate.wait, 30)

    hung = MemorySync()
    # Each lock has a twin of the backend, with a deadline of its own.
    stops = [hung.within(1.0 + number).background(stuck()) for number in range(3 * background.MAX_WORKERS)]
    stop = MemorySync().background(ticking(beats, done))
    assert done.wait(5)
    assert len(workers()) - before <= background.MAX_WORKERS + 1
    gate.set()
    for each in [*stops, stop]:
        each()


def test_every_step_that_waited_for_a_thread_is_done(ticker: background._Ticker) -> None:
    """More may be due at once than a store has threads."""
    left = threading.Semaphore(0)
    driver = MemorySync()

    def once() -> Steps[None]:
        yield Sleep(0.001)
        left.release()

    for _ in range(20 * background.MAX_WORKERS):
        driver.background(once())
    for _ in range(20 * background.MAX_WORKERS):
        assert left.acquire(timeout=5)


def test_threads_without_work_end(ticker: background._Ticker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And their store is forgotten; another step starts a new one."""
    monkeypatch.setattr(background, "LONGEST_IDLE", 0.01)
    driver = MemorySync()
    for _ in range(2):
        before = workers()
        done = threading.Event()
        driver.background(ticking([], done))()
        stop = driver.background(ticking([], done, every=0.001))
        assert done.wait(5)
        stop()
        for thread in set(workers()) - set(before):
            thread.join(5)
            assert not thread.is_alive()
    other, done = MemorySync(), threading.Event()
    stop = other.background(ticking([], done, every=0.05))
    assert done.wait(5)
    assert set(ticker._workers) <= {id(other.store)}
    stop()


def test_clients_adopted_twice_are_one_store() -> None:
    """Every lock adopts its client; a backend of another deadline is the same store, too."""
    client = redis.Redis()
    first, second = adopt(client), adopt(client, timeout=1.0)
    assert first.store is second.store
    assert first.within(3.0).store is first.store
    assert first.store is not adopt(redis.Redis()).store


def test_failing_steps_are_logged_and_end(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in background steps is seen, and ends only them."""
    ended = threading.Event()

    def failing() -> Steps[None]:
        yield Sleep(0.001)
        try:
            raise RuntimeError("bug")
        finally:
            ended.set()

    beats: list[int] = []
    done = threading.Event()
    driver = MemorySync()
    with caplog.at_level(logging.ERROR, logger="holdfast.background"):
        driver.background(failing())
        assert ended.wait(5)
        stop = driver.background(ticking(beats, done))
        assert done.wait(5)
    stop()
    assert "background steps failed" in caplog.text


async def test_steps_go_on_beside_a_task_until_stopped() -> None:
    """The asyncio twin: a timer first, a task once the first sleep is over."""
    beats: list[int] = []
    before = len(asyncio.all_tasks())
    stop = MemoryAsync().background(ticking(beats))
    assert len(asyncio.all_tasks()) == before
    while len(beats) < 3:  # noqa: ASYNC110 - the beats are what is waited for, and a list sets no event
        await asyncio.sleep(0.001)
    stop()
    await asyncio.sleep(0.01)
    seen = len(beats)
    await asyncio.sleep(0.02)
    assert len(beats) == seen
    assert len(asyncio.all_tasks()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_a_background_of_its_own() -> None:
    """Threads do not survive a fork; heartbeats of the child must beat all the same."""
    stop = MemorySync().background(ticking([]))
    child = os.fork()
    if child == 0:
        done = threading.Event()
        MemorySync().background(ticking([], done))
        os._exit(0 if done.wait(5) else 1)
    _, status = os.waitpid(child, 0)
    stop()
    assert os.waitstatus_to_exitcode(status) == 0


def test_stopping_what_has_ended_stops_nothing_else() -> None:
    """A lost lease ends its own heartbeat; leaving its block later must not end a newcomer's at the same address."""

    def ending() -> Steps[None]:
        yield Sleep(0.0)
        ended.release()

    ended = threading.Semaphore(0)
    driver = MemorySync()
    for _ in range(20):
        stops_of_ended = [driver.background(ending()) for _ in range(10)]
        for _ in stops_of_ended:
            assert ended.acquire(timeout=5)
        driver.background(ending())  # when its turn comes, nothing else remembers the ones above
        assert ended.acquire(timeout=5)
        newcomers = [driver.background(ticking([], every=60)) for _ in range(20)]
        for stop in stops_of_ended:
            stop()
        alive = len(background._ticker.jobs)
        for stop in newcomers:
            stop()
        assert alive >= len(newcomers)


def test_a_newcomer_during_the_look_is_not_overslept(ticker: background._Ticker) -> None:
    """Who comes while the ticker works out its next look is due all the same when its sleep is over."""
    driver = MemorySync()
    came, done = threading.Event(), threading.Event()

    class Late(background._Job):
        """Its due time is what the ticker looks at last, and then somebody comes."""

        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            if name == "due" and threading.current_thread().name == "holdfast-ticker" and looks.pop():
                driver.background(ticking([], done))
                came.set()
            return super().__getattribute__(name)

    looks = [*[False] * 100, True, False]  # taken from the end: when the due are listed, and at the next look
    stop = ticker.start(Late(driver, ticking([], every=30)))
    assert came.wait(5)
    assert done.wait(5)
    stop()


def test_background_steps_outlive_the_main_thread() -> None:
    """A script may end its main thread while others hold locks: their heartbeats go on, also new ones."""
    script = """
import threading, time
from holdfast.backends.memory import MemorySync
from holdfast.operations import Sleep

def ticking(done):
    for _ in range(3):
        yield Sleep(0.001)
    done.set()

def wait(started):
    for _ in range(2):
        done = threading.Event()
        MemorySync().background(ticking(done))
        started.set()
        main.join()
        print(done.wait(10))

main, started = threading.current_thread(), threading.Event()
if EARLY:
    threading.Thread(target=wait, args=(started,)).start()
    started.wait()
else:
    threading.Thread(target=lambda: main.join() or wait(started)).start()
"""
    for early in (True, False):
        process = subprocess.run(
            [sys.executable, "-c", script.replace("EARLY", str(early))],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (process.stdout, process.stderr) == ("True\nTrue\n", "")


def test_a_process_out_of_threads_keeps_no_orphan_and_drops_nobody(
    ticker: background._Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps whose start failed never run; those that began before go on, one at a time."""
    driver = MemorySync()

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            driver.background(ticking([]))
    assert not ticker.jobs
    done = threading.Event()
    stop = driver.background(ticking([], done, every=0.05))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert done.wait(5)
    stop()
