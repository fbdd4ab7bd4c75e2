"""A fair pool: a fixed number of things, lent in the order in which they were asked for.

SQLite's in-process writers queue for the one turn to write, PostgreSQL's requests for a connection.
Threads and tasks of any event loop may wait in the same queue. On the happy path there is no lock:
`deque.pop` and `deque.append` are atomic.

The order of steps is what makes that safe. A waiter first enters the queue and then looks once more
for something free; a giver first lays the thing down and then looks once more for a waiter:

    waiter:  enter queue ........ look: nothing -> wait
    giver:         lay down .............. look: a waiter -> hand it over

Whichever comes second sees the other. A waiter is `claimed` exactly once, either by the giver who
hands it something or by itself when it gives up, so nothing is lost when the two happen together.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["FairPool"]

T = TypeVar("T")


class _Waiter(Generic[T]):
    """One place in the queue."""

    def __init__(self) -> None:
        self._claim: dict[str, tuple[T] | tuple[()]] = {}

    def claim(self, box: tuple[T] | tuple[()]) -> bool:
        """Put the item, or nothing when giving up, into this place; False when it is taken."""
        return self._claim.setdefault("box", box) is box  # setdefault is atomic

    @property
    def item(self) -> T:
        return self._claim["box"][0]  # type: ignore[misc]

    def wake(self) -> bool:
        raise NotImplementedError


class _Thread(_Waiter[T]):
    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Lock()
        self.gate.acquire()

    def wake(self) -> bool:
        self.gate.release()
        return True


class _Task(_Waiter[T]):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.gate: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> bool:
        try:
            self.loop.call_soon_threadsafe(self._open)
        except RuntimeError:  # its event loop is closed: nobody waits any more
            return False
        return True

    def _open(self) -> None:
        if not self.gate.done():
            self.gate.set_result(None)


class FairPool(Generic[T]):
    """Lend `items`, first come, first served."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = deque(items)
        self._waiters: deque[_Waiter[T]] = deque()

    def take_now(self) -> tuple[T] | None:
        """Take an item if one is free and nobody waits; a 1-tuple, because an item may be None."""
        if self._waiters:
            return None
        try:
            return (self._items.pop(),)
        except IndexError:
            return None

    def take(self, seconds: float) -> T:
        """Take an item, blocking the thread for up to `seconds`.

        Raises:
            TimeoutError: none became free in that time.
        """
        if (taken := self.take_now()) is not None:
            return taken[0]
        waiter: _Thread[T] = _Thread()
        try:
            if self._enter(waiter) or waiter.gate.acquire(timeout=max(0.0, seconds)):
                return waiter.item
        except BaseException:
            self._leave(waiter)
            raise
        if self._give_up(waiter):
            raise TimeoutError
        return waiter.item  # handed over at the last moment

    async def take_async(self, seconds: float) -> T:
        """Take an item, waiting for up to `seconds`; a cancelled task leaves nothing taken.

        Raises:
            TimeoutError: none became free in that time.
        """
        if (taken := self.take_now()) is not None:
            return taken[0]
        waiter: _Task[T] = _Task()
        try:
            if not self._enter(waiter):
                await asyncio.wait([waiter.gate], timeout=max(0.0, seconds))
        except BaseException:
            self._leave(waiter)
            raise
        if self._give_up(waiter):
            raise TimeoutError
        return waiter.item

    def give(self, item: T) -> None:
        """Give an item back, or hand it to the first in the queue."""
        if self._waiters and self._hand_over(item):
            return
        self._items.append(item)
        while self._waiters:
            try:
                item = self._items.pop()
            except IndexError:
                return
            if self._hand_over(item):
                return
            self._items.append(item)

    def _enter(self, waiter: _Waiter[T]) -> bool:
        # True when the waiter has its item already.
        self._waiters.append(waiter)
        try:
            item = self._items.pop()
        except IndexError:
            return False
        if waiter.claim((item,)):
            self._forget(waiter)
            return True
        self.give(item)  # somebody handed it another at the same moment
        return True

    def _give_up(self, waiter: _Waiter[T]) -> bool:
        # False when it was handed something at the last moment.
        if not waiter.claim(()):
            return False
        self._forget(waiter)
        return True

    def _leave(self, waiter: _Waiter[T]) -> None:
        if not self._give_up(waiter):
            self.give(waiter.item)

    def _forget(self, waiter: _Waiter[T]) -> None:
        # A giver may just have taken it out; it sees the claim and goes on to the next.
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)

    def _hand_over(self, item: T) -> bool:
        while True:
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return False
            if waiter.claim((item,)) and waiter.wake():
                return True
