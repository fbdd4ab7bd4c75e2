"""One `with` block that holds a lease: its heartbeat, its interruption, and how it ends.

A block ends in `LockLost` when its lease was over before its end, even though its code ran through:
during the rest of the block another may have held the lock too, and the caller must hear of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast import signals
from holdfast.errors import BackendError
from holdfast.locks.lease import Lease
from holdfast.operations import Async, Sync

__all__ = ["AsyncBlock", "ReleaseFailed", "SyncBlock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFailed(signals.Signal):
    """A lock could not be given back, because the store did not answer; it ends after its TTL."""

    name: str
    token: int
    error: BaseException


def _nothing() -> None:
    """Stand in for a heartbeat that was not asked for."""


class SyncBlock:
    """A `with` block of a thread. It cannot be interrupted: `lease.check()` tells."""

    def __init__(self, lease: Lease[Sync], driver: Any, *, heartbeat: bool) -> None:
        self.lease = lease
        self.entered: float = driver.clock.monotonic()
        self._driver = driver
        self._stop = driver.background(lease.heartbeat(_nothing)) if heartbeat else _nothing

    def leave(self, error: BaseException | None) -> None:
        """Give the lock back and tell if it was lost."""
        self._stop()
        in_time = self.lease.held
        try:
            in_time = self._driver.run(self.lease.releasing()) and in_time
        except BackendError as failure:
            _tell(self.lease, failure)
        _judge(self.lease, error, in_time=in_time)


class AsyncBlock:
    """An `async with` block of a task, which is cancelled at once when the lease is lost."""

    def __init__(self, lease: Lease[Async], driver: Any, *, heartbeat: bool) -> None:
        self.lease = lease
        self.entered: float = driver.clock.monotonic()
        self._driver = driver
        self._interrupted = False
        self._task = asyncio.current_task()
        # Cancellations from elsewhere that are already on their way: not ours to take back.
        self._cancelling = self._task.cancelling() if self._task else 0
        watching = lease.heartbeat(self._interrupt) if heartbeat else lease.watch(self._interrupt)
        self._stop: Callable[[], None] = driver.background(watching)

    def _interrupt(self) -> None:
        if self._task is not None:
            self._interrupted = True
            self._task.cancel("lease lost")

    async def leave(self, error: BaseException | None) -> None:
        """Give the lock back; turn an interruption of ours into `LockLost`."""
        self._stop()
        in_time = self.lease.held
        only_ours, met = await self._take_back(error) if self._interrupted else (False, None)
        try:
            in_time = await self._driver.run(self.lease.releasing()) and in_time
        except BackendError as failure:
            _tell(self.lease, failure)
        if only_ours and isinstance(error, asyncio.CancelledError):
            raise self.lease.lost_error() from error
        if met is not None and not only_ours:
            raise met
        _judge(self.lease, error, in_time=in_time)

    async def _take_back(self, error: BaseException | None) -> tuple[bool, asyncio.CancelledError | None]:
        """Undo our own cancellation; whether nobody else asked for one too, and the one that was met here."""
        assert self._task is not None
        met = None
        if not isinstance(error, asyncio.CancelledError):
            # The block ended before our cancellation reached it: meet it here, not in the caller. When somebody
            # else cancelled as well, both arrive as one, and that one is theirs.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as cancelled:
                met = cancelled
        return self._task.uncancel() <= self._cancelling, met


def _judge(lease: Lease[Any], error: BaseException | None, *, in_time: bool) -> None:
    if in_time:
        return
    lease.lose()
    lost = lease.lost_error()
    if error is None:
        raise lost
    error.add_note(f"also: {lost}")


def _tell(lease: Lease[Any], failure: BackendError) -> None:
    if signals.subscribers:
        signals.emit(ReleaseFailed(name=lease.name, token=lease.token, error=failure))
