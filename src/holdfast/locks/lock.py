"""`Lock`: at most one live lease per name, on any backend.

What it guarantees: the store grants a name to one owner at a time, each grant with a greater fencing
token, and only the owner can extend or release it. What it cannot guarantee: that a holder which was
paused, or lost its network, stops working when its lease is over. Fencing at the resource covers that
(`holdfast.locks.fencing`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, Unpack, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt, carrier
from holdfast.drivers import AsyncDriver
from holdfast.errors import BackendUnavailable, ConfigurationError, LockNotAcquired, OutcomeUnknown
from holdfast.locks._block import AsyncBlock, SyncBlock
from holdfast.locks.advice import BlockRanLong, suggest_ttl
from holdfast.locks.holder import Holder, LeaseEnded, usual_label
from holdfast.locks.lease import Lease, LockStore, giving_back, legal_ttl
from holdfast.locks.waiting import Notified, Polling
from holdfast.operations import Async, C, Pattern, Request, Steps, Sync, Within, operation

__all__ = ["Lock", "RedisLock"]

DEFAULT_TTL = 30.0
DEFAULT_TIMEOUT = 10.0
# Who waits for a lease to end looks so many seconds late at most.
LATE_BY = 0.02
# Whoever waited for this share of a request's deadline has waited for all of it: timers are not exact.
MOST_OF_DEADLINE = 0.9
# A store has at least so many seconds to answer, however little is left of a caller's timeout.
LEAST_ANSWER_TIME = 0.2
KEPT_DURATIONS = 512


class LockOptions(TypedDict, total=False):
    """The keywords of `Lock`, for its overloads."""

    ttl: float
    timeout: float
    heartbeat: bool
    label: str | None
    request_timeout: float | None


class Lock(Pattern[C], Generic[C]):
    """A distributed lock with a TTL, an owner check, fencing tokens and a heartbeat.

        with Lock(client, "report") as lease:          # async with, for an asyncio client
            storage.write(report, fencing_token=lease.token)

    One `Lock` object may be shared by threads and tasks; each `with` block holds its own lease. It is
    not reentrant: a second `with` inside the first waits like any other caller.

    Args:
        client: a client or backend; its colour decides whether operations block or are awaited. In SQL a pool,
            an engine or `connect(URL)`, because a lease needs transactions of its own.
        name: what is locked, 1 to 255 printable characters.
        ttl: seconds that a lease lives unless it is extended, 0.001 to 366 days. Long enough for the
            slowest step of the work, short enough to wait for when a holder has died.
        timeout: most seconds that `with` and `acquire` wait for the lock, >= 0; 0 asks once.
        heartbeat: whether the lease is extended every `ttl / 3` while a `with` block runs. Without it the block
            of an asyncio client is interrupted when its `ttl` is over.
        label: what others are told of the holder (`peek`), 1 to 255 printable characters; None means host and
            process id.
        request_timeout: seconds that one request to the store may take, > 0; None keeps the backend's.

    Raises:
        ConfigurationError: an argument is not legal.
    """

    _dialects: ClassVar[tuple[str, ...] | None] = None

    @overload
    def __init__(self: Lock[Async], client: AsyncClient, name: str, **options: Unpack[LockOptions]) -> None: ...
    @overload
    def __init__(self: Lock[Sync], client: SyncClient, name: str, **options: Unpack[LockOptions]) -> None: ...
    def __init__(
        self,
        client: Any,
        name: str,
        *,
        ttl: float = DEFAULT_TTL,
        timeout: float = DEFAULT_TIMEOUT,
        heartbeat: bool = True,
        label: str | None = None,
        request_timeout: float | None = None,
    ) -> None:
        self.name: str = checks.key("name", name)
        self.ttl: float = legal_ttl(ttl)
        self.timeout: float = checks.between("timeout", timeout, 0, threading.TIMEOUT_MAX)
        self.heartbeat: bool = checks.flag("heartbeat", heartbeat)
        self.label: str | None = None if label is None else checks.key("label", label)
        self._driver = backend = adopt(client, timeout=checks.optional_timeout("request_timeout", request_timeout))
        if self._dialects is not None and backend.dialect not in self._dialects:
            message = f"{type(self).__name__} takes a client of {' or '.join(self._dialects)}, not {backend!r}"
            raise ConfigurationError(message)
        if backend.one_connection:
            message = (
                f"a {type(self).__name__} on {backend!r} is not legal: its lease would be part of your transaction, "
                "seen by nobody and gone with a rollback, and could not be renewed beside your own statements; give "
                "holdfast.connect(URL), a pool or an engine"
            )
            raise ConfigurationError(message)
        self._store: LockStore = carrier(__package__, backend)
        self._is_async = isinstance(backend, AsyncDriver)
        # Who is in which block: threads or tasks by their identity. A holder is in two at once when the lease of
        # its outer block was over before it entered the inner one.
        self._blocks: list[tuple[int, Any]] = []
        self._durations: deque[float] = deque(maxlen=KEPT_DURATIONS)

    @operation
    def acquire(self, *, timeout: float | None = None) -> Steps[Lease[C] | None]:
        """Return a lease, or None if the lock was taken for the whole `timeout`.

        The lease is not extended by itself: call `lease.extend()`, or use `with` for a heartbeat.
        When the caller is interrupted or cancelled, nothing stays locked.

        Args:
            timeout: most seconds to wait, >= 0; None takes the lock's own.

        Raises:
            BackendUnavailable: the store was not reached; the lock was not taken.
            OutcomeUnknown: the store did not answer; what it may have granted ends after `ttl`.
        """
        wait = self.timeout if timeout is None else checks.between("timeout", timeout, 0, threading.TIMEOUT_MAX)
        return (yield from self._acquiring(wait))

    @operation
    def peek(self) -> Request[Holder | None]:
        """Tell who holds the lock: label, token, age, and what is left of the lease. None when nobody does.

        It may be over when the answer is here: for people and dashboards, not for deciding what to do next.
        """
        return self._store.peek(self.name)

    @operation
    def force_release(self, *, reason: str) -> Steps[Holder | None]:
        """End whatever lease there is, and return whose it was; None when there was none.

        For an operator who knows that the holder is gone. One that is not gone is told that its lease is lost
        when it next renews it, and the fencing token keeps its late writes out. Emits `LeaseEnded`.

        Args:
            reason: for the audit log, 1 to 255 printable characters.
        """
        checks.key("reason", reason)
        held = yield from self._store.force_release(self.name)
        if held is not None and signals.subscribers:
            signals.emit(LeaseEnded(name=self.name, holder=held, by=self._own_label(), reason=reason))
        return held

    def _own_label(self) -> str:
        return self.label or self._driver.label or usual_label()

    def _acquiring(self, timeout: float) -> Steps[Lease[C] | None]:
        clock = self._driver.clock
        # 128 bits from the driver's dice: the system's own, or the simulator's, which repeat with the seed.
        owner = f"{self._driver.random.getrandbits(128):032x} {self._own_label()}"
        deadline = clock.monotonic() + timeout
        lease, rest = yield from self._asking(owner, max(timeout, LEAST_ANSWER_TIME))
        if lease is None and timeout > 0:
            return (yield from self._waiting(owner, deadline, rest))
        return lease

    def _waiting(self, owner: str, deadline: float, rest: float) -> Steps[Lease[C] | None]:
        clock, dice = self._driver.clock, self._driver.random
        watch = yield from self._watching(deadline - clock.monotonic())
        try:
            while (left := deadline - clock.monotonic()) > 0:
                # A lease that ends by itself is told to nobody. The jitter keeps waiters apart.
                yield from watch.next(min(left, rest + dice.uniform(0.0, LATE_BY)))
                left = max(deadline - clock.monotonic(), LEAST_ANSWER_TIME)
                lease, rest = yield from self._asking(owner, left)
                if lease is not None:
                    return lease
            return None
        finally:
            watch.close()

    def _watching(self, left: float) -> Steps[Any]:
        if (request := self._store.watch(self.name)) is not None:
            watch = yield from Within(request, max(left, LEAST_ANSWER_TIME))
            if watch is not None:
                return Notified(watch, self._driver.random)
        return Polling(self._driver.random)

    def _asking(self, owner: str, within: float) -> Steps[tuple[Lease[C] | None, float]]:
        ask = self._store.acquire(self.name, owner, self.ttl)
        most = self._driver.timeout
        if within < most:
            ask, most = Within(ask, within), within
        asked = self._driver.clock.monotonic()
        try:
            token, rest = yield from ask
        except (BackendUnavailable, GeneratorExit):
            raise  # certainly not granted, or nobody left to carry out a release
        except BaseException as error:
            # Cancelled, interrupted or unanswered: it may have been granted, so give it back. But a store that
            # kept silent for the whole deadline would do so again: then the lease ends by itself.
            waited = self._driver.clock.monotonic() - asked
            if not isinstance(error, OutcomeUnknown) or waited < most * MOST_OF_DEADLINE:
                yield from giving_back(self._store, self.name, owner)
            raise
        if token is None:
            return None, rest
        lease: Lease[C] = Lease(
            self._driver,
            self._store,
            name=self.name,
            owner=owner,
            token=token,
            ttl=self.ttl,
            expires=asked + self.ttl,
        )
        if not lease.held:
            # The answer took longer than the lease lives: that is no grant.
            yield from giving_back(self._store, self.name, owner)
            return None, 0.0
        return lease, rest

    def suggest_ttl(self, *, factor: float = 2.5) -> float | None:
        """Return the TTL, in seconds, that fits the last 512 `with` blocks of this object; see `suggest_ttl`."""
        return suggest_ttl(self._durations, factor=factor)

    def _note_duration(self, block: SyncBlock | AsyncBlock) -> None:
        seconds = self._driver.clock.monotonic() - block.entered
        self._durations.append(seconds)
        if seconds > self.ttl / 2 and signals.subscribers:
            signals.emit(BlockRanLong(name=self.name, token=block.lease.token, seconds=seconds, ttl=self.ttl))

    def _not_acquired(self) -> LockNotAcquired:
        message = f"lock {self.name!r} was held by another for the whole timeout of {self.timeout:g} s"
        return LockNotAcquired(message, key=self.name)

    def _left_by(self, holder: int) -> Any:
        own = [entry for entry in self._blocks if entry[0] == holder]
        # A framework may leave a block in another thread or task than it entered it: while there is only one
        # block, there is no doubt which.
        candidates = own or self._blocks[:]
        if not own and len(candidates) != 1:
            message = f"{self!r} was left by another thread or task than entered it: use acquire() and lease.release()"
            raise ConfigurationError(message)
        self._blocks.remove(candidates[-1])
        return candidates[-1][1]

    def __enter__(self: Lock[Sync]) -> Lease[Sync]:
        if self._is_async:
            message = f"this lock has an asyncio client: write `async with {type(self).__name__}(...)`"
            raise ConfigurationError(message)
        lease: Lease[Sync] | None = self._driver.run(self._acquiring(self.timeout))
        if lease is None:
            raise self._not_acquired()
        self._blocks.append((threading.get_ident(), SyncBlock(lease, self._driver, heartbeat=self.heartbeat)))
        return lease

    def __exit__(
        self: Lock[Sync],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block: SyncBlock = self._left_by(threading.get_ident())
        self._note_duration(block)
        block.leave(error)

    async def __aenter__(self: Lock[Async]) -> Lease[Async]:
        if not self._is_async:
            message = f"this lock has a blocking client: write `with {type(self).__name__}(...)`"
            raise ConfigurationError(message)
        lease: Lease[Async] | None = await self._driver.run(self._acquiring(self.timeout))
        if lease is None:
            raise self._not_acquired()
        self._blocks.append((id(asyncio.current_task()), AsyncBlock(lease, self._driver, heartbeat=self.heartbeat)))
        return lease

    async def __aexit__(
        self: Lock[Async],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block: AsyncBlock = self._left_by(id(asyncio.current_task()))
        self._note_duration(block)
        await block.leave(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} on {self._driver.place}>"


class RedisLock(Lock[C], Generic[C]):
    """`Lock`, for Redis and Valkey clients only."""

    _dialects = ("redis",)

    if TYPE_CHECKING:
        # pyright does not infer the colour of a subclass through inherited overloads.
        @overload
        def __init__(
            self: RedisLock[Async], client: AsyncClient, name: str, **options: Unpack[LockOptions]
        ) -> None: ...
        @overload
        def __init__(self: RedisLock[Sync], client: SyncClient, name: str, **options: Unpack[LockOptions]) -> None: ...
        def __init__(self, client: Any, name: str, **options: Any) -> None: ...
