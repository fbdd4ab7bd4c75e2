"""Ending a run early, but in order: on Ctrl-C, SIGTERM or SIGHUP, or when nobody reads its output any more.

Left to themselves SIGTERM and SIGHUP end a process at once, with its temporary folder left behind, and Ctrl-C raises
wherever it finds the main thread, perhaps inside a task. Here each of them cancels the run's task while an event loop
runs, so that every coroutine cleans up, and raises `KeyboardInterrupt` elsewhere. Only the first one counts: cleaning
up takes a few seconds at most, and a second signal must not tear it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

__all__ = ["Ending", "orderly_end"]

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHELLS_OFFSET = 128


class Ending:
    """Whether the run is to end before its time, and why."""

    def __init__(self) -> None:
        self.number: int = 0
        self._over = False
        self._task: asyncio.Task[Any] | None = None

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal has ended."""
        return _SHELLS_OFFSET + self.number

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name

    def end(self, number: int) -> None:
        """End the run because of this signal, unless it is ending already."""
        if self._over:
            return
        self.number, self._over = number, True
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def too_late(self) -> None:
        """Everything is being cleaned up: from now on a signal has nothing to end."""
        self._over = True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in an event loop.

        Raises:
            KeyboardInterrupt: it was ended, whatever `work` made of its cancellation.
        """
        try:
            result = asyncio.run(self._noted(work))
        except BaseException:
            if self.number:
                raise KeyboardInterrupt from None
            raise
        if self.number:
            raise KeyboardInterrupt
        return result

    async def _noted(self, work: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        try:
            return await work
        finally:
            self._task = None


@contextlib.contextmanager
def orderly_end() -> Iterator[Ending]:
    """Hand the signals that end a process to an `Ending` for as long as the block lasts."""
    ending = Ending()
    # Who ignores a signal keeps ignoring it: nohup does that with SIGHUP, a script's background job with SIGINT.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: ending.end(number)) for number in heard}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
