"""Endless steps beside the user's code: lease renewal, outbox relays.

`start(driver, steps)` carries `steps` out in the background until they end or `stop()` is called. The
first request must be a `Sleep`, and most background work is stopped before that sleep is over (a lock
held for a millisecond never needs its renewal), so starting and stopping must cost next to nothing:

* async: one timer of the event loop; a task exists only once the first sleep is over;
* sync: an entry in a set that one thread per process looks through when something may be due. That is
  cheaper to enter and to leave than a heap with removals, and far cheaper than a thread per lease.

A step that blocks (a store that does not answer) holds one worker thread, never the others' timers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.operations import Driver, Sleep, Steps

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["start_in_loop", "start_in_thread"]

_logger = logging.getLogger("holdfast.background")
MAX_WORKERS = 8
LONGEST_NAP = 60.0


class _Job:
    """A generator of requests, and when its next step is due (monotonic seconds)."""

    __slots__ = ("driver", "due", "steps")

    def __init__(self, driver: Any, steps: Steps[None]) -> None:
        self.driver = driver
        self.steps = steps
        self.due = time.monotonic() + next(steps).seconds  # type: ignore[attr-defined]


class _Ticker:
    """The one thread that knows what is due, and the few that do it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.jobs: set[_Job] = set()
        # Handed over, and not begun by a worker yet.
        self._waiting: set[_Job] = set()
        self._wake = threading.Event()
        self._next_look = math.inf
        self._workers: ThreadPoolExecutor | None = None
        self._opened = False

    def start(self, job: _Job) -> Callable[[], None]:
        if not self._opened:
            self._open()
        self.jobs.add(job)
        if job.due < self._next_look:
            self._wake.set()

        def stop() -> None:
            self.jobs.discard(job)

        return stop

    def _open(self) -> None:
        with _ticker_lock:
            if not self._opened:
                # RuntimeError: the main thread has ended already, other threads go on; see `_submit`.
                with contextlib.suppress(RuntimeError):
                    from concurrent.futures import ThreadPoolExecutor

                    self._workers = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="holdfast-background")
                threading.Thread(target=self._tick, name="holdfast-ticker", daemon=True).start()
                self._opened = True

    def _tick(self) -> None:
        while True:
            # A job that comes from here on may be missed by the look below, so each of them sets the event:
            #
            #   ticker: looks ── job A, due in 60 s ──────────────────── next look in 60 s, waits
            #   caller:                               job B, due in 1 s ── is that before the next look?
            self._next_look = math.inf
            now = time.monotonic()
            due = [job for job in list(self.jobs) if job.due <= now]
            for job in due:
                job.due = math.inf  # until its worker has set it anew
                self._submit(job)
            self._next_look = min((job.due for job in list(self.jobs)), default=now + LONGEST_NAP)
            self._wake.wait(max(0.0, min(self._next_look - time.monotonic(), LONGEST_NAP)))
            self._wake.clear()

    def _submit(self, job: _Job) -> None:
        self._waiting.add(job)
        try:
            if self._workers is not None:
                self._workers.submit(self._advance, job)
                return
        except RuntimeError:
            # No thread can be started, or the main thread has ended: a pool takes no work then, but other threads
            # may still hold leases.
            pass
        self._advance(job)

    def _advance(self, job: _Job) -> None:
        try:
            self._waiting.remove(job)
        except KeyError:
            return  # a pool that could not start a thread has queued the job all the same
        if job not in self.jobs:
            return
        seconds = _advance(job)
        if seconds is None:
            self.jobs.discard(job)
        else:
            job.due = time.monotonic() + seconds
            if job.due < self._next_look:
                self._wake.set()


def _advance(job: _Job) -> float | None:
    """Carry out steps up to the next sleep; its seconds, or None at the end."""
    try:
        request = next(job.steps)
        while not isinstance(request, Sleep):
            try:
                reply = request.carry(job.driver)
            except BaseException as error:  # noqa: BLE001 - the steps decide what an error means
                request = job.steps.throw(error)
            else:
                request = job.steps.send(reply)
    except StopIteration:
        return None
    except Exception:
        _logger.exception("background steps failed")
        return None
    return request.seconds


_ticker = _Ticker()
_ticker_lock = threading.Lock()


def start_in_thread(driver: Driver, steps: Steps[None]) -> Callable[[], None]:
    """Carry out `steps` in background threads; returns the function that stops them."""
    global _ticker  # noqa: PLW0603 - threads do not survive a fork: a child begins with a new ticker
    if _ticker.pid != os.getpid():
        _ticker = _Ticker()
    return _ticker.start(_Job(driver, steps))


def start_in_loop(driver: Driver, steps: Steps[None]) -> Callable[[], None]:
    """Carry out `steps` on the running event loop; returns the function that stops them."""
    import asyncio

    loop = asyncio.get_running_loop()
    task: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal task
        task = loop.create_task(_run_logged(driver, steps))

    timer = loop.call_later(next(steps).seconds, begin)  # type: ignore[attr-defined]

    def stop() -> None:
        timer.cancel()
        if task is not None and not task.done():
            task.cancel()

    return stop


async def _run_logged(driver: Any, steps: Steps[None]) -> None:
    try:
        await driver.run(steps)
    except Exception:
        _logger.exception("background steps failed")
