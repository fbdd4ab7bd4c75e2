"""A bulkhead: at most so many calls at once, so that one slow dependency cannot take every worker.

The free slots are tokens in a list. Taking one is `pop`, giving it back is `append`: both atomic, so a
call that finds a slot needs no lock. Only when none is left does a caller queue, under a lock. Nobody is
forgotten between the two, because each side writes first and looks second:

    the caller that leaves            the caller that queues
    1 append its token                1 append itself to the queue
    2 look at the queue               2 look at the tokens

Whichever comes second sees the other. A queued caller is *given* its slot (first come, first served), so
a caller that is cancelled after that still owns a slot and must hand it on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from holdfast import checks, forks, signals
from holdfast.errors import BulkheadFull
from holdfast.resilience._functions import full_name, is_async, refuse_coroutine, with_parentheses
from holdfast.resilience._order import check_order, mark
from holdfast.resilience._waiters import TaskWaiter, ThreadWaiter, Waiter

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Bulkhead", "BulkheadRefused", "bulkhead"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadRefused(signals.Signal):
    """A bulkhead turned a call away, at once or after waiting."""

    name: str
    in_use: int
    waiting: int


class Bulkhead:
    """A bound on concurrent calls, counted together over all threads and tasks of this process.

    Guarantees: never more than `max_concurrent` calls inside, never more than `max_queue` waiting, each no
    longer than `max_wait`; first come, first served; a slot comes back however its call ends, and
    when its waiter is cancelled, at any point.

    Not guaranteed: a bound over several processes (that is a semaphore of `holdfast.locks`).

    Args:
        name: what it guards, for errors and signals; 1 to 255 printable characters.
        max_concurrent: calls inside at once, >= 1.
        max_queue: callers that may wait for a slot, >= 0. The default is 0, because waiting for a
            dependency that is slow makes things worse unless the burst is known to be short.
        max_wait: seconds a caller waits at most, > 0; without a queue nobody waits.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    __slots__ = ("__weakref__", "_lock", "_slots", "_waiters", "max_concurrent", "max_queue", "max_wait", "name")

    def __init__(self, name: str, *, max_concurrent: int = 25, max_queue: int = 0, max_wait: float = 1.0) -> None:
        self.name: str = checks.key("name", name)
        self.max_concurrent: int = checks.at_least("max_concurrent", max_concurrent, 1)
        self.max_queue: int = checks.at_least("max_queue", max_queue, 0)
        self.max_wait: float = checks.positive("max_wait", max_wait)
        self._slots: list[None] = [None] * max_concurrent
        self._waiters: deque[Waiter] = deque()
        # Reentrant: the garbage collector may close an abandoned coroutine, which leaves its bulkhead,
        # while this very thread holds the lock.
        self._lock = threading.RLock()
        forks.remember(self)

    def forget_inherited(self) -> None:
        """After a fork: the threads that held the lock, or waited for a slot, stayed with the parent.

        So did those that hold slots, but nobody knows which; fork before the work begins.
        """
        self._lock = threading.RLock()
        self._waiters = deque(waiter for waiter in self._waiters if not isinstance(waiter, ThreadWaiter))

    @property
    def in_use(self) -> int:
        """Slots taken now."""
        return self.max_concurrent - len(self._slots)

    @property
    def waiting(self) -> int:
        """Callers in the queue now."""
        return len(self._waiters)

    def __call__(self, function: F) -> F:
        """Decorate `function`, sync or async. One bulkhead may guard several functions."""
        must_await = is_async("bulkhead", function)
        check_order("bulkhead", function, name=full_name(function))
        wrapper: Any = self._guard_async(function) if must_await else self._guard(function)
        mark(wrapper, "bulkhead", self, function)
        return wrapper  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        """Take a slot, blocking this thread while waiting in the queue.

        Raises:
            BulkheadFull: no slot, and no place in the queue or none within `max_wait`; also when waiting
                would block a running event loop, which may be the one that has to free the slot.
        """
        if not self._take():
            self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        """Take a slot, waiting in the queue without blocking the event loop.

        Raises:
            BulkheadFull: no slot, and no place in the queue or none within `max_wait`.
        """
        if not self._take():
            await self._wait_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def __repr__(self) -> str:
        return f"Bulkhead({self.name!r}, in_use={self.in_use}, max_concurrent={self.max_concurrent})"

    # The two wrappers below are the hot path: `_take` and `_leave` written out, to stay in one frame.

    def _guard(self, function: Callable[P, T]) -> Callable[P, T]:
        waiters, take, give_back = self._waiters, self._slots.pop, self._slots.append

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            if waiters:
                self._wait()
            else:
                try:
                    take()
                except IndexError:
                    self._wait()
            try:
                result = function(*args, **kwargs)
            finally:
                give_back(None)
                if waiters:
                    self._serve()
            if type(result) is CoroutineType:
                refuse_coroutine("bulkhead", function, result)
            return result

        return guarded

    def _guard_async(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        waiters, take, give_back = self._waiters, self._slots.pop, self._slots.append

        @wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            if waiters:
                await self._wait_async()
            else:
                try:
                    take()
                except IndexError:
                    await self._wait_async()
            try:
                return await function(*args, **kwargs)
            finally:
                give_back(None)
                if waiters:
                    self._serve()

        return guarded

    def _take(self) -> bool:
        """Take a free slot, unless others were here first."""
        if self._waiters:
            return False
        try:
            self._slots.pop()
        except IndexError:
            return False
        return True

    def _leave(self) -> None:
        self._slots.append(None)
        if self._waiters:
            self._serve()

    def _serve(self) -> None:
        """Give free slots to those who wait, oldest first."""
        with self._lock:
            while self._waiters:
                try:
                    self._slots.pop()
                except IndexError:
                    return
                waiter = self._waiters.popleft()
                waiter.granted = waiter.wake()
                if not waiter.granted:
                    self._slots.append(None)

    def _wait(self) -> None:
        if self.max_queue and asyncio._get_running_loop() is not None:  # noqa: SLF001 - the only test that cannot raise
            raise self._refusal("waiting here would block the event loop; use `async with` or an async function")
        waiter = ThreadWaiter()
        self._enqueue(waiter)
        try:
            waiter.wait(self.max_wait)
        except BaseException:
            self._abandon(waiter)
            raise
        if self._withdraw(waiter):
            raise self._refusal(f"no slot within {self.max_wait:g} s")

    async def _wait_async(self) -> None:
        waiter = TaskWaiter()
        self._enqueue(waiter)
        try:
            await waiter.wait(self.max_wait)
        except BaseException:
            self._abandon(waiter)
            raise
        if self._withdraw(waiter):
            raise self._refusal(f"no slot within {self.max_wait:g} s")

    def _enqueue(self, waiter: Waiter) -> None:
        with self._lock:
            full = len(self._waiters) >= self.max_queue
            if not full:
                self._waiters.append(waiter)
                self._serve()
        if full:
            raise self._refusal(f"{self.max_concurrent} calls run and {self.max_queue} wait")

    def _withdraw(self, waiter: Waiter) -> bool:
        """Leave the queue; False when `waiter` was given a slot already."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return not waiter.granted

    def _abandon(self, waiter: Waiter) -> None:
        if not self._withdraw(waiter):
            self._leave()

    def _refusal(self, reason: str) -> BulkheadFull:
        if signals.subscribers:
            signals.emit(BulkheadRefused(name=self.name, in_use=self.in_use, waiting=self.waiting))
        # Within max_wait everyone who waits now has been served or has given up, so there is a place in the
        # queue then. Without a queue nobody knows how long the running calls take.
        retry_after = self.max_wait if self.max_queue else None
        return BulkheadFull(f"bulkhead {self.name!r} is full: {reason}", retry_after=retry_after, name=self.name)


@with_parentheses
def bulkhead(
    *, max_concurrent: int = 25, max_queue: int = 0, max_wait: float = 1.0, name: str | None = None
) -> Callable[[F], F]:
    """Bound the concurrent calls of a function, sync or async, with a bulkhead of its own.

    The arguments are those of `Bulkhead`; `name` is the function's full name unless given. To let several
    functions share the slots of one dependency, make a `Bulkhead` and decorate with that.

    Raises:
        ConfigurationError: an argument outside its range; a generator function; a policy inside that
            must be outside.
        BulkheadFull: (from the decorated function) turned away; `retry_after` in seconds, None without a queue.
    """

    def make(bulkhead_name: str) -> Bulkhead:
        return Bulkhead(bulkhead_name, max_concurrent=max_concurrent, max_queue=max_queue, max_wait=max_wait)

    make("check" if name is None else name)  # wrong arguments fail here, in the line that has them

    def decorate(function: F) -> F:
        return make(full_name(function) if name is None else name)(function)

    return decorate
