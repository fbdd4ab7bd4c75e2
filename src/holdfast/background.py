"""Endless steps beside the user's code: lease renewal, outbox relays.

`start(driver, steps)` carries `steps` out in the background until they end or `stop()` is called. The
first request must be a `Sleep`, and most background work is stopped before that sleep is over (a lock
held for a millisecond never needs its renewal), so starting and stopping must cost next to nothing:

* async: one timer of the event loop; a task exists only once the first sleep is over;
* sync: an entry in a set that one thread per process looks through when something may be due. That is
  cheaper to enter and to leave than a heap with removals, and far cheaper than a thread per lease.

A step that blocks (a store that does not answer) holds one of the few worker threads of its own store, never the
timers, and never the threads of other stores: leases on a store that hangs must not cost those on a healthy one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast import forks
from holdfast.operations import Driver, Sleep, Steps

if TYPE_CHECKING:
    import asyncio

__all__ = ["start_in_loop", "start_in_thread"]

_logger = logging.getLogger("holdfast.background")
# Threads per store, and seconds that one of them waits for more to do before it ends.
MAX_WORKERS = 8
LONGEST_IDLE = 5.0
LONGEST_NAP = 60.0


class _Job:
    """A generator of requests, and when its next step is due (monotonic seconds)."""

    __slots__ = ("driver", "due", "steps")

    def __init__(self, driver: Any, steps: Steps[None]) -> None:
        self.driver = driver
        self.steps = steps
        self.due = time.monotonic() + next(steps).seconds  # type: ignore[attr-defined]


class _Workers:
    """The few threads that carry out what is due on one store."""

    def __init__(self, advance: Callable[[_Job], None]) -> None:
        self._advance = advance
        self._changed = threading.Condition()
        self._due: deque[_Job] = deque()
        self._threads = self._idle = 0

    @property
    def gone(self) -> bool:
        """Whether all its threads have ended."""
        return self._threads == 0

    def give(self, job: _Job) -> bool:
        """Have `job` carried out up to its next sleep; False when there is no thread to do so."""
        with self._changed:
            self._due.append(job)
            if self._idle >= len(self._due) or self._threads == MAX_WORKERS:
                self._changed.notify()
                return True
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="holdfast-background", daemon=True).start()
        except RuntimeError:  # this process can start no more threads
            with self._changed:
                self._threads -= 1
                if self._threads or job not in self._due:
                    return True
                self._due.remove(job)
                return False
        return True

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._advance(job)

    def _next(self) -> _Job | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._due, LONGEST_IDLE)
            self._idle -= 1
            if self._due:
                return self._due.popleft()
            self._threads -= 1
            return None


class _Ticker:
    """The one thread that knows what is due, and for each store the few that do it."""

    def __init__(self) -> None:
        self.jobs: set[_Job] = set()
        self._opening = threading.Lock()
        self._opened = False
        self._wake = threading.Event()
        self._next_look = math.inf
        # By the identity of their store, which lives as long as one of its jobs does. Touched by the ticker only.
        self._workers: dict[int, _Workers] = {}

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
        with self._opening:
            if not self._opened:
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
                self._hand_over(job)
            self._forget_gone()
            self._next_look = min((job.due for job in list(self.jobs)), default=now + LONGEST_NAP)
            self._wake.wait(max(0.0, min(self._next_look - time.monotonic(), LONGEST_NAP)))
            self._wake.clear()

    def _hand_over(self, job: _Job) -> None:
        store = id(getattr(job.driver, "store", job.driver))
        if (workers := self._workers.get(store)) is None:
            workers = self._workers[store] = _Workers(self._advance)
        if not workers.give(job):
            self._advance(job)

    def _forget_gone(self) -> None:
        for store in [store for store, workers in self._workers.items() if workers.gone]:
            del self._workers[store]

    def _advance(self, job: _Job) -> None:
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


def start_in_thread(driver: Driver, steps: Steps[None]) -> Callable[[], None]:
    """Carry out `steps` in background threads; returns the function that stops them."""
    return _ticker.start(_Job(driver, steps))


def _after_fork() -> None:
    global _ticker  # noqa: PLW0603 - threads do not survive a fork: a child begins with a new ticker
    _ticker = _Ticker()


forks.first(_after_fork)


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
