"""Calls that nobody can interrupt, such as connecting: made in a thread, and waited for no longer than agreed.

The threads are kept for a while, for waking one costs 10 us and starting one 60.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from holdfast.backends import _fork
from holdfast.backends._fair import FairPool

__all__ = ["BoundedCalls", "in_thread"]

T = TypeVar("T")
_IDLE_SECONDS = 10.0
"""How long a thread without work is kept."""


def in_thread(function: Callable[[], T], seconds: float, discard: Callable[[T], None]) -> T:
    """Call `function` in a thread, and wait for it no longer than `seconds`.

    A result that comes too late is given to `discard`.

    Raises:
        TimeoutError: it took longer.
    """
    call = _Call(function, discard)
    call.begin()
    return call.result(seconds)


class BoundedCalls:
    """Calls of which at most `limit` are under way, also when all of them hang.

    Args:
        limit: most calls at a time; more wait for their turn.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.forget_inherited()
        _fork.remember(self)

    def make(self, function: Callable[[], T], seconds: float, discard: Callable[[T], None]) -> T:
        """Call `function` as `in_thread` does.

        Raises:
            TimeoutError: it took longer, or all that are under way did.
        """
        deadline = time.monotonic() + seconds
        places = self._places
        places.take(seconds)
        call = _Call(function, discard, ended=lambda: places.give(None))
        try:
            call.begin()
        except BaseException:  # no thread could be started
            places.give(None)
            raise
        return call.result(deadline - time.monotonic())

    def forget_inherited(self) -> None:
        """After a fork: the threads stayed with the parent."""
        self._places: FairPool[None] = FairPool([None] * self._limit)


_LATE = TimeoutError()
_NO_OUTCOME = (None, _LATE)


def _nothing() -> None:
    """Do nothing."""


class _Call(Generic[T]):
    """One call; whoever claims it first, the thread with an outcome or the waiter when late, decides."""

    def __init__(
        self, function: Callable[[], T], discard: Callable[[T], None], ended: Callable[[], None] = _nothing
    ) -> None:
        self._function = function
        self._discard = discard
        self._ended = ended
        self._claim: dict[str, Any] = {}
        self._gate = threading.Lock()
        self._gate.acquire()

    def begin(self) -> None:
        """Have a thread call the function."""
        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        worker.begin(self)

    def run(self) -> None:
        """Call the function, in the thread."""
        try:
            outcome: tuple[Any, BaseException | None] = (self._function(), None)
        except BaseException as error:  # noqa: BLE001 - raised again by the waiter
            outcome = (None, error)
        if self._claim.setdefault("outcome", outcome) is not outcome:
            self._drop(outcome)
        self._ended()

    def wake(self) -> None:
        """Let the waiter go on."""
        self._gate.release()

    def result(self, seconds: float) -> T:
        """Wait for the outcome."""
        try:
            self._gate.acquire(timeout=max(0.0, seconds))
        except BaseException:  # Ctrl-C
            self._drop(self._claim.setdefault("outcome", _NO_OUTCOME))
            raise
        result, error = self._claim.setdefault("outcome", _NO_OUTCOME)
        if error is _LATE:
            message = f"no connection within {seconds:.3g} s"
            raise TimeoutError(message)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _drop(self, outcome: tuple[Any, BaseException | None]) -> None:
        result, error = outcome
        if error is None:
            with contextlib.suppress(Exception):  # nobody is there to hear of it
                self._discard(result)


class _Worker:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self._call: _Call[Any] | None = None
        self._go = threading.Lock()
        self._go.acquire()
        threading.Thread(target=self._work, name="holdfast-connect", daemon=True).start()

    def begin(self, call: _Call[Any]) -> None:
        """Make this call next."""
        self._call = call
        self._go.release()

    def _work(self) -> None:
        while self._wanted():
            self._make_call()

    def _make_call(self) -> None:
        # A method of its own, so that an idle thread does not hold on to what its last call returned.
        call, self._call = self._call, None
        assert call is not None
        call.run()
        # Before the waiter goes on, so that its next call finds this thread.
        _idle.append(self)
        call.wake()

    def _wanted(self) -> bool:
        if self._go.acquire(timeout=_IDLE_SECONDS):
            return True
        try:
            _idle.remove(self)
        except ValueError:  # somebody has just taken it
            return self._go.acquire()
        return False


_idle: deque[_Worker] = deque()
_fork.first(_idle.clear)  # the threads stayed with the parent
