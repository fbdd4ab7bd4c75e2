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

from holdfast import background
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


def test_a_newcomer_during_the_look_is_not_overslept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while the ticker works out its next look is due all the same when its sleep is over."""
    driver, ticker = MemorySync(), background._Ticker()
    monkeypatch.setattr(background, "_ticker", ticker)
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


def test_a_process_out_of_threads_keeps_no_orphan_and_drops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps whose start failed never run; those that began before go on, one at a time."""
    driver, ticker = MemorySync(), background._Ticker()
    monkeypatch.setattr(background, "_ticker", ticker)

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
