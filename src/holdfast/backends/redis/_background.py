"""Calls that know no deadline, such as asking sentinels for a master or looking up a name, made to keep ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from holdfast import forks
from holdfast.backends._fair import FairPool

__all__ = ["Background", "Opening"]

# Seconds after which a run is believed to hang for good. What it waits for may have vanished without a word, and the
# kernel notices only after a quarter of an hour.
PATIENCE = 30.0
# Sockets that one pool opens at the same time.
MOST_OPENINGS = 64


class Background:
    """Call `function` in a daemon thread, once at a time, and wait for it until a deadline.

    Who comes while it runs waits for the same run. A run that outlives its deadline goes on, and may be
    done when the next caller comes. Only one that takes longer than `PATIENCE` is given up for a new one.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.forget_inherited()
        forks.remember(self)

    def forget_inherited(self) -> None:
        """After a fork: the thread of a run, and who held the lock, stayed with the parent."""
        self._lock = threading.Lock()
        self._run: Future[Any] | None = None
        self._began = 0.0

    def __call__(self, deadline: float) -> Any:
        """Return the function's result, or raise `TimeoutError` at `deadline` (on `time.monotonic`)."""
        with self._lock:
            run, now = self._run, time.monotonic()
            if run is None or run.done() or now > self._began + PATIENCE:
                run, self._began = Future(), now
                _start(self._function, run)
                self._run = run
        return run.result(timeout=max(0.0, deadline - time.monotonic()))


class Opening:
    """Open sockets in daemon threads, because nothing interrupts a name lookup, and wait for them until a deadline.

    A lookup goes on when nobody waits for it any more, so no more than `MOST_OPENINGS` are under way at once.
    """

    def __init__(self) -> None:
        self.forget_inherited()
        forks.remember(self)

    def forget_inherited(self) -> None:
        """After a fork: what was being opened stayed with the parent."""
        self._places = FairPool([None] * MOST_OPENINGS)

    def __call__(self, connect: Callable[[], Any], deadline: float) -> Any:
        """Return the socket that `connect` opens, or raise `TimeoutError` at `deadline` (on `time.monotonic`)."""
        places = self._places
        places.take(deadline - time.monotonic())
        run: Future[Any] = Future()
        run.add_done_callback(lambda _: places.give(None))
        try:
            _start(connect, run)
        except RuntimeError:  # no thread can be started any more
            _work(connect, run)
        try:
            return run.result(timeout=max(0.0, deadline - time.monotonic()))
        except BaseException:
            run.add_done_callback(_close)  # nobody is left to take it
            raise


def _start(function: Callable[[], Any], run: Future[Any]) -> None:
    threading.Thread(target=_work, args=(function, run), name="holdfast-redis", daemon=True).start()


def _work(function: Callable[[], Any], run: Future[Any]) -> None:
    try:
        run.set_result(function())
    except BaseException as error:  # noqa: BLE001 - whoever waits gets it
        run.set_exception(error)


def _close(run: Future[Any]) -> None:
    if run.exception() is None:
        run.result().close()
