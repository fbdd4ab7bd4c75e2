"""A lease: the time-bounded right that a lock grants, and what its holder can ask of it."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol

from holdfast import checks, signals
from holdfast.errors import HoldfastError, LockLost
from holdfast.locks.holder import Holder
from holdfast.operations import C, Pattern, Request, Sleep, Steps, Within, operation

__all__ = ["Grant", "Lease", "LeaseLost", "LockStore", "RenewalFailed", "giving_back", "legal_ttl"]

# A renewal is due after a third of the TTL: two of them may fail before the lease is over.
RENEWALS_PER_TTL = 3
# What a renewal may take, and when the next try comes after a failed one, as shares of the TTL.
RENEWAL_SHARE = 0.2
RETRY_SHARE = 0.1
# Seconds that giving back may take in a caller that was cancelled: it waits for nothing else.
LAST_WORD = 1.0
# One release in so many also removes rows that ended long ago, where the store keeps rows.
PRUNE_ONE_IN = 1024
# Within these every store counts exactly.
SHORTEST_TTL, LONGEST_TTL = 0.001, 366 * 86_400.0


def legal_ttl(ttl: float) -> float:
    """Return `ttl` if every store can keep a lease for so many seconds."""
    return checks.between("ttl", checks.positive("ttl", ttl), SHORTEST_TTL, LONGEST_TTL)


class Grant(NamedTuple):
    """The answer to an ask: a fencing token, or how many seconds the present lease has left, if that is known."""

    token: int | None
    rest: float = math.inf


class LockStore(Protocol):
    """What a carrier of locks provides, as functions that return requests."""

    def acquire(self, name: str, owner: str, ttl: float) -> Request[Grant]:
        """Grant the lock unless another owner's lease lives."""
        ...

    def watch(self, name: str) -> Request[Any] | None:
        """Stand in line for notices that the lock is free; None where the store tells nobody."""
        ...

    def extend(self, name: str, owner: str, ttl: float) -> Request[bool]:
        """Let the owner's lease live `ttl` seconds from now; False if it has none."""
        ...

    def release(self, name: str, owner: str) -> Request[bool]:
        """End the owner's lease; False if it has none."""
        ...

    def peek(self, name: str) -> Request[Holder | None]:
        """Tell who holds the lock; None when nobody does."""
        ...

    def force_release(self, name: str) -> Request[Holder | None]:
        """End whatever lease there is, and tell whose it was."""
        ...

    def prune(self) -> Request[Any] | None:
        """Remove what has been over for long; None where the backend does it by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(signals.Signal):
    """A lease ended while its holder still worked."""

    name: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed(signals.Signal):
    """A heartbeat could not extend a lease; it tries again until the lease is over."""

    name: str
    token: int
    error: Exception


class Lease(Pattern[C], Generic[C]):
    """The right to a lock until `remaining` seconds from now.

    A lease is not a mutex: a holder that is paused can outlive it. Pass `token` along with every write,
    so that the resource can refuse a holder whose time is over (`holdfast.locks.FenceGuard`).

    Attributes:
        name: the lock's name.
        token: the fencing token, greater than that of every earlier lease of this name.
        ttl: seconds that the lease lives after it was granted or extended.
    """

    __slots__ = (
        "_bound", "_driver", "_expires", "_given_back", "_lock", "_lost", "_owner", "_released", "_store", "_under_way",
        "name", "token", "ttl",
    )  # fmt: skip

    def __init__(
        self, driver: Any, store: LockStore, *, name: str, owner: str, token: int, ttl: float, expires: float
    ) -> None:
        """Made by `Lock.acquire`; `expires` is monotonic, counted from before the request was sent."""
        self._driver = driver
        self._store = store
        self._owner = owner
        self._expires = expires
        self._lost = self._released = self._given_back = False
        # Extensions whose answers are awaited, and the earliest end that one of them may leave behind.
        self._under_way = 0
        self._bound = expires
        self._lock = threading.Lock()
        self.name: str = name
        self.token: int = token
        self.ttl: float = ttl

    @property
    def remaining(self) -> float:
        """Seconds until the lease ends if it is not extended; 0.0 when it is over.

        Counted on this machine's monotonic clock from *before* the grant was asked for, so it never
        promises more than the store does. Costs no round trip.
        """
        if self._lost or self._released:
            return 0.0
        return float(max(0.0, self._expires - self._driver.clock.monotonic()))

    @property
    def held(self) -> bool:
        """Whether the lease is certainly alive at this moment."""
        return self.remaining > 0.0

    def check(self) -> None:
        """Raise `LockLost` if the lease is over: call it between the steps of long work."""
        if not self.held:
            raise self.lost_error()

    @operation
    def extend(self, *, ttl: float | None = None) -> Steps[bool]:
        """Let the lease live for `ttl` seconds from now (default: its own); False if it was lost."""
        return (yield from self.extending(self.ttl if ttl is None else legal_ttl(ttl)))

    @operation
    def release(self) -> Steps[bool]:
        """Give the lock back; False if the lease was over before. Calling it again is harmless.

        Raises:
            BackendUnavailable, OutcomeUnknown: the store was away. Call it again; else the lease ends after its TTL.
        """
        return (yield from self.releasing())

    def extending(self, ttl: float, *, within: float = math.inf) -> Steps[bool]:
        """The steps of `extend`; the answer is waited for `within` so many seconds."""
        if self._lost or self._released:
            return False
        bound = self._driver.clock.monotonic() + ttl
        self._ask(bound)
        try:
            extended = yield from _bounded(self._store.extend(self.name, self._owner, ttl), within)
        finally:
            self._answered()
        if extended:
            self._expires = self._bound
        elif not self._released:  # by another thread meanwhile: given back is not lost
            self.lose()
        return extended

    def _ask(self, bound: float) -> None:
        # Two extensions may cross (the user's and a heartbeat), and the store keeps what it hears last:
        #
        #     user       extend(0.5) ──────────────────────────────────▶ store: ends in 0.5 s
        #     heartbeat         extend(30) ──▶ store: ends in 30 s
        #
        # So of all that were under way together the earliest end counts. It counts from now on, because a
        # shorter life may begin although no answer comes.
        with self._lock:
            self._bound = min(self._bound, bound) if self._under_way else bound
            self._expires = min(self._expires, bound)
            self._under_way += 1

    def _answered(self) -> None:
        with self._lock:
            self._under_way -= 1

    def releasing(self) -> Steps[bool]:
        """The steps of `release`."""
        if self._given_back:
            return False
        self._released = True  # whatever happens now, it is not certainly held any more
        try:
            still_ours = yield from self._store.release(self.name, self._owner)
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            # Cancelled or interrupted, perhaps before anything was sent: ask again. Drivers shield what comes now.
            yield from giving_back(self._store, self.name, self._owner)
            raise
        self._given_back = True
        if (prune := self._store.prune()) is not None and self._driver.random.random() * PRUNE_ONE_IN < 1:
            with contextlib.suppress(HoldfastError):
                yield from prune
        return still_ours

    def heartbeat(self, on_lost: Callable[[], None]) -> Steps[None]:
        """Extend the lease until it is released; call `on_lost` once, at the moment when it is over."""
        pause = self.ttl / RENEWALS_PER_TTL
        while True:
            # It may be over already here, when its holder was paused since the grant; background steps begin with
            # a sleep all the same. The jitter keeps leases that were taken together from renewing together for ever.
            yield Sleep(min(self.remaining, pause * self._driver.random.uniform(0.8, 1.0)))
            if self._released or not (left := self.remaining):
                break
            pause = (yield from self._renewing(min(left, self.ttl * RENEWAL_SHARE))) * self.ttl
            if not self.held:
                break
        if not self._released:
            self.lose()
            on_lost()

    def _renewing(self, within: float) -> Steps[float]:
        """One beat of the heart; returns after which share of the TTL the next one is due."""
        try:
            yield from self.extending(self.ttl, within=within)
        except Exception as error:  # noqa: BLE001 - whatever it is, the holder hears of it when the lease is over
            if signals.subscribers:
                signals.emit(RenewalFailed(name=self.name, token=self.token, error=error))
            return RETRY_SHARE
        return 1 / RENEWALS_PER_TTL

    def watch(self, on_lost: Callable[[], None]) -> Steps[None]:
        """Call `on_lost` once, at the moment when the lease is over, unless it is released before."""
        yield Sleep(self.remaining)
        while left := self.remaining:  # it was extended meanwhile
            yield Sleep(left)
        if not self._released:
            self.lose()
            on_lost()

    def lose(self) -> None:
        """Note that the lease is over, and tell it once."""
        if not self._lost:
            self._lost = True
            if signals.subscribers:
                signals.emit(LeaseLost(name=self.name, token=self.token))

    def lost_error(self) -> LockLost:
        """The error that says that this lease is over."""
        message = f"the lease on {self.name!r} (token {self.token}) is over: another may hold the lock now"
        return LockLost(message, key=self.name, token=self.token)

    def __repr__(self) -> str:
        return f"<Lease {self.name!r} token={self.token} remaining={self.remaining:.3f}>"


def giving_back(store: LockStore, name: str, owner: str) -> Steps[None]:
    """Release what `owner` may hold, in a caller that has something worse to tell than that it failed."""
    # The lease ends by itself after its TTL.
    with contextlib.suppress(Exception):
        yield from Within(store.release(name, owner), LAST_WORD)


def _bounded(request: Request[bool], seconds: float) -> Request[bool]:
    return request if seconds == math.inf else Within(request, seconds)
