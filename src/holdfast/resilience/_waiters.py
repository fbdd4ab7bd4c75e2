"""How a thread and a task wait in one queue for something that is handed to them.

Whoever hands something over calls `wake()`, from any thread; a thread waits on a lock, a task on a future
of its own event loop.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

__all__ = ["TaskWaiter", "ThreadWaiter", "Waiter"]


class Waiter(Protocol):
    """One caller in the queue; `granted` once it owns a slot. Written under the bulkhead's lock."""

    granted: bool

    def wake(self) -> bool:
        """Tell the caller that it owns a slot; False when there is nobody left to tell."""
        ...


class ThreadWaiter:
    __slots__ = ("_gate", "granted")

    def __init__(self) -> None:
        self.granted = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> bool:
        self._gate.release()
        return True

    def wait(self, seconds: float) -> None:
        self._gate.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


class TaskWaiter:
    __slots__ = ("_future", "_loop", "_thread", "granted")

    def __init__(self) -> None:
        self.granted = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        try:
            if threading.get_ident() == self._thread:
                self._resolve()
            else:
                self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # its loop was closed meanwhile, perhaps by this very thread
            return False
        return True

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        # Not wait_for(): wait() leaves the future alone, so a slot that was given is never lost in it.
        await asyncio.wait((self._future,), timeout=seconds)
