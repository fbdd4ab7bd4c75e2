"""The memory backend: one process, nothing kept, and the readable model of every pattern.

A pattern's request here is a `Call`: a plain function that is given the `State` and runs alone. What
Lua and SQL do for a pattern elsewhere, its `memory.py` says in Python, and tests compare the two.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from holdfast import forks
from holdfast.backends._backend import DEFAULT_TIMEOUT, AsyncBackend, SyncBackend
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.errors import BackendUnavailable, ConfigurationError
from holdfast.operations import Request, Steps

__all__ = ["Call", "MemoryAsync", "MemorySync", "State", "Table"]

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
DEFAULT_MAX_ENTRIES = 1_000_000


class Table(Generic[V]):
    """A bounded map whose entries may end.

    Every write looks at the two oldest entries and drops those that have ended, so the work is spread
    evenly. When it is full it drops the oldest (`evict`), or all that have ended, and if there are none it
    refuses the write.
    """

    def __init__(self, state: State, *, max_entries: int, evict: bool) -> None:
        self._state = state
        self._entries: dict[str, tuple[V, float | None]] = {}
        self._max_entries = max_entries
        self._evict = evict
        # No entry ends before this, so until then it is no use to look for ended ones.
        self._next_end = math.inf

    def get(self, key: str) -> V | None:
        """Return the live value of `key`, or None."""
        entry = self._entries.get(key)
        if entry is None or self._ended(entry):
            return None
        return entry[0]

    def put(self, key: str, value: V, *, expires_at: float | None = None) -> None:
        """Set `key` until `expires_at` on the state's clock (None: for ever)."""
        previous = self._entries.pop(key, None)
        self._make_room()
        self._entries[key] = (value, expires_at)
        if expires_at is not None and expires_at < self._next_end:
            self._next_end = expires_at
        self._note(key, previous)

    def delete(self, key: str) -> None:
        """Remove `key` if it is there."""
        previous = self._entries.pop(key, None)
        if previous is not None:
            self._note(key, previous)

    def items(self) -> Iterator[tuple[str, V]]:
        """Walk through the live entries, oldest write first."""
        return ((key, entry[0]) for key, entry in self._entries.items() if not self._ended(entry))

    def __len__(self) -> int:
        return len(self._entries)

    def _ended(self, entry: tuple[V, float | None]) -> bool:
        return entry[1] is not None and entry[1] <= self._state.now

    def _make_room(self) -> None:
        for key in [key for key, _ in zip(self._entries, range(2), strict=False)]:
            if self._ended(self._entries[key]):
                del self._entries[key]
        if len(self._entries) < self._max_entries:
            return
        if self._evict:
            oldest = next(iter(self._entries))
            self._note(oldest, self._entries.pop(oldest))
            return
        if self._next_end <= self._state.now:
            self._drop_ended()
        if len(self._entries) >= self._max_entries:
            message = f"memory table is full: {self._max_entries} live entries"
            raise BackendUnavailable(message, backend="memory", operation="put")

    def _drop_ended(self) -> None:
        for key in [key for key, entry in self._entries.items() if self._ended(entry)]:
            del self._entries[key]
        self._next_end = min((end for _, end in self._entries.values() if end is not None), default=math.inf)

    def _note(self, key: str, previous: tuple[V, float | None] | None) -> None:
        if self._state.journal is not None:
            self._state.journal.append((self._entries, key, previous))


class State:
    """Everything one memory backend holds. Functions of a `Call` get it as their first argument.

    Args:
        clock: decides when entries end.
        max_entries: most live entries per table, >= 1.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, max_entries: int = DEFAULT_MAX_ENTRIES) -> None:
        self.clock = clock
        self.lock: threading.RLock = threading.RLock()
        self.now: float = clock.monotonic()
        self.journal: list[tuple[dict[str, Any], str, Any]] | None = None
        self._max_entries = max_entries
        self._tables: dict[str, Table[Any]] = {}
        forks.remember(self)

    def forget_inherited(self) -> None:
        """After a fork: whoever held the lock stayed with the parent, and will not finish what it began."""
        self.lock = threading.RLock()
        if self.journal is not None:
            _undo(self.journal)
            self.journal = None

    def table(self, name: str, *, evict: bool = False) -> Table[Any]:
        """Return the table called `name`, made on first use."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table(self, max_entries=self._max_entries, evict=evict)
        return table

    def call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Run `function(state, *args)` alone, at one moment in time."""
        with self.lock:
            self.now = self.clock.monotonic()
            return function(self, *args)

    def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Run all requests of `steps()` alone; undo every write when one fails."""
        with self.lock:
            if self.journal is not None:
                return _run_calls(self, steps())
            self.journal = []
            try:
                return _run_calls(self, steps())
            except BaseException:
                _undo(self.journal)
                raise
            finally:
                self.journal = None


def _run_calls(state: State, steps: Steps[T]) -> T:
    # No awaiting and no user's function in here: it all happens under the state's lock.
    try:
        request = next(steps)
        while True:
            if not isinstance(request, Call):
                message = f"a memory transaction cannot hold {request!r}; use sqlite:///FILE for that"
                raise ConfigurationError(message)
            request = steps.send(state.call(request.function, request.args))
    except StopIteration as stop:
        return cast("T", stop.value)


def _undo(journal: list[tuple[dict[str, Any], str, Any]]) -> None:
    for entries, key, previous in reversed(journal):
        entries.pop(key, None)
        if previous is not None:
            entries[key] = previous


class Call(Request[T]):
    """Run `function(state, *args)` under the memory backend's lock."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[Concatenate[State, P], T], *args: P.args, **kwargs: P.kwargs) -> None:
        assert not kwargs, "a Call takes positional arguments only"
        self.function: Callable[..., T] = function
        self.args: tuple[Any, ...] = args

    def carry(self, driver: Any) -> Any:
        """Have `driver` call the function."""
        return driver.call(self)

    def __repr__(self) -> str:
        return f"Call({self.function.__name__.strip('_')}{self.args!r})"


class MemorySync(SyncBackend):
    """The memory backend for blocking code."""

    dialect = "memory"

    def __init__(
        self,
        state: State | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        super().__init__("memory://", timeout=timeout, clock=clock, random=random)
        self.state: State = state or State(clock=clock)

    def call(self, request: Call[T]) -> T:
        """Run the request's function alone."""
        return self.state.call(request.function, request.args)

    def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Run `steps()` alone, all or none."""
        return self.state.atomic(steps)


class MemoryAsync(AsyncBackend):
    """The memory backend for asyncio code."""

    dialect = "memory"

    def __init__(
        self,
        state: State | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        super().__init__("memory://", timeout=timeout, clock=clock, random=random)
        self.state: State = state or State(clock=clock)

    async def call(self, request: Call[T]) -> T:
        """Run the request's function alone."""
        return self.state.call(request.function, request.args)

    async def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Run `steps()` alone, all or none."""
        return self.state.atomic(steps)


def open_sync(url: str, *, timeout: float) -> MemorySync:
    """Open a new, empty memory backend for blocking code."""
    _check_nameless(url)
    return MemorySync(timeout=timeout)


def open_async(url: str, *, timeout: float) -> MemoryAsync:
    """Open a new, empty memory backend for asyncio code."""
    _check_nameless(url)
    return MemoryAsync(timeout=timeout)


def _check_nameless(url: str) -> None:
    # A name would look as if all who give it shared one memory.
    if url.partition("://")[2] not in {"", "/"}:
        raise ConfigurationError("url memory://... is not legal: give memory://, and share the backend itself")
