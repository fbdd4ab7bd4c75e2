"""A lease: the time-bounded right that a lock grants, and what its holder can ask of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from holdfast import checks, signals
from holdfast.errors import BackendError, LockLost
from holdfast.operations import C, Pattern, Request, Sleep, Steps, operation

__all__ = ["Lease", "LeaseLost", "LockStore", "legal_ttl"]

# A renewal is due after a third of the TTL: two of them may fail before the lease is over.
RENEWALS_PER_TTL = 3
# After a failed renewal the next try comes after this share of the TTL.
RETRY_SHARE = 0.1
# Within these every store counts exactly.
SHORTEST_TTL, LONGEST_TTL = 0.001, 366 * 86_400.0


def legal_ttl(ttl: float) -> float:
    """Return `ttl` if every store can keep a lease for so many seconds."""
    return checks.between("ttl", checks.positive("ttl", ttl), SHORTEST_TTL, LONGEST_TTL)


class LockStore(Protocol):
    """What a carrier of locks provides, as functions that return requests."""

    def acquire(self, name: str, owner: str, ttl: float) -> Request[int | None]:
        """Grant the lock and return its fencing token, or None."""
        ...

    def extend(self, name: str, owner: str, ttl: float) -> Request[bool]:
        """Let the owner's lease live `ttl` seconds from now; False if it has none."""
        ...

    def release(self, name: str, owner: str) -> Request[bool]:
        """End the owner's lease; False if it has none."""
        ...

    def prune(self) -> Request[Any] | None:
        """Remove what has been over for long; None where the backend does it by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(signals.Signal):
    """A lease ended while its holder still worked."""

    name: str
    token: int


class Lease(Pattern[C], Generic[C]):
    """The right to a lock until `remaining` seconds from now.

    A lease is not a mutex: a holder that is paused can outlive it. Pass `token` along with every write,
    so that the resource can refuse a holder whose time is over (`holdfast.locks.FenceGuard`).

    Attributes:
        name: the lock's name.
        token: the fencing token, greater than that of every earlier lease of this name.
        ttl: seconds that the lease lives after it was granted or extended.
    """

    __slots__ = ("_driver", "_expires", "_given_back", "_lost", "_owner", "_released", "_store", "name", "token", "ttl")

    def __init__(
        self, driver: Any, store: LockStore, *, name: str, owner: str, token: int, ttl: float, expires: float
    ) -> None:
        """Made by `Lock.acquire`; `expires` is monotonic, counted from before the request was sent."""
        self._driver = driver
        self._store = store
        self._owner = owner
        self._expires = expires
        self._lost = self._released = self._given_back = False
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

    def extending(self, ttl: float) -> Steps[bool]:
        """The steps of `extend`."""
        if self._lost or self._released:
            return False
        asked = self._driver.clock.monotonic()
        # A shorter life may begin although no answer comes: from here on only that much is certain.
        self._expires = min(self._expires, asked + ttl)
        if not (yield from self._store.extend(self.name, self._owner, ttl)):
            if not self._released:  # by another thread meanwhile: given back is not lost
                self.lose()
            return False
        self._expires = asked + ttl
        return True

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
            with contextlib.suppress(Exception):
                yield from self._store.release(self.name, self._owner)
            raise
        self._given_back = True
        return still_ours

    def heartbeat(self, on_lost: Callable[[], None]) -> Steps[None]:
        """Extend the lease until it is released; call `on_lost` once when it is over."""
        pause = self.ttl / RENEWALS_PER_TTL
        while True:
            # It may be over already here, when its holder was paused since the grant; background steps begin with
            # a sleep all the same. The jitter keeps leases that were taken together from renewing together for ever.
            yield Sleep(min(self.remaining, pause * self._driver.random.uniform(0.8, 1.0)))
            if self._released:
                return
            try:
                yield from self.extending(self.ttl)
                pause = self.ttl / RENEWALS_PER_TTL
            except BackendError:
                pause = self.ttl * RETRY_SHARE
            if not self.held:
                break
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
