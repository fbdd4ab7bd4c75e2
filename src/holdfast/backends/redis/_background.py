"""Calls that know no deadline, such as asking sentinels for a master, made to keep ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["Background"]


class Background:
    """Call `function` in a daemon thread, once at a time, and wait for it until a deadline.

    Who comes while it runs waits for the same run. A run that outlives its deadline goes on, and may be
    done when the next caller comes.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._run: Future[Any] | None = None
        self._pid = 0

    def __call__(self, deadline: float) -> Any:
        """Return the function's result, or raise `TimeoutError` at `deadline` (on `time.monotonic`)."""
        with self._lock:
            run = self._run
            # A forked child has inherited the run, but not its thread.
            if run is None or run.done() or self._pid != os.getpid():
                run = self._run = Future()
                self._pid = os.getpid()
                threading.Thread(target=self._work, args=(run,), name="holdfast-redis", daemon=True).start()
        return run.result(timeout=max(0.0, deadline - time.monotonic()))

    def _work(self, run: Future[Any]) -> None:
        try:
            run.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            run.set_exception(error)
