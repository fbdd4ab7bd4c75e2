"""One execution under a key: in one transaction, or under a lease.

In one transaction (SQL), the claim, whatever `process` writes and the answer commit together, so a crash leaves
nothing and a second request finds all or nothing. That is exactly once for everything the transaction holds.

Under a lease, the claim is stored first and the answer afterwards, because what `process` does in between (a call
to another service) cannot be in a transaction, or is too slow for one:

    first request    claim ── process ──────────── crash
                        lease ─────────────────────────── over
    its retry                                 in progress     claim (attempt 2) ── process ── commit + answer

So `process` may run again after a crash: it is at least once, and must hand on a key derived from its own. What the
`commit` hook writes is exactly once, since it shares the answer's transaction, and a first request that comes back
after it was taken over is refused there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Never, TypeVar, cast

from holdfast import signals
from holdfast.errors import BackendError, BackendUnavailable, HoldfastError, KeyInProgress, KeyReused, StaleToken
from holdfast.idempotency import results
from holdfast.idempotency.store import Busy, Claim, Claimed, Store, Stored, differ
from holdfast.operations import Atomic, Run, Sleep, Steps

__all__ = ["ClaimLost", "Execution", "KeyRefused", "KeyReplayed", "KeyStored", "KeyTakenOver"]

T = TypeVar("T")
FIRST_POLL = 0.005
LONGEST_POLL = 0.25
# What a refused request is told to wait at most: the lease is for crashes, and answers come sooner.
LONGEST_RETRY_AFTER = 1.0
# A renewal is due after a third of the lease: two of them may fail before it is over.
RENEWALS_PER_LEASE = 3
# Whoever waited for this share of a request's deadline has waited for all of it: timers are not exact.
MOST_OF_DEADLINE = 0.9
# One execution in so many also removes expired records, where the store keeps them: twice as many as were added since,
# and few enough to be quick.
PRUNE_ONE_IN = 64
PRUNE_LIMIT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySignal(signals.Signal):
    """The base of what is told about a key: its `identity` is a hash, because keys may be secrets."""

    identity: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStored(KeySignal):
    """A request was executed and its answer stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReplayed(KeySignal):
    """A request was answered with a stored answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRefused(KeySignal):
    """A request was refused: `reason` is the error's code."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTakenOver(KeySignal):
    """The lease of an earlier request was over, so this one executes again, as number `attempt`."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLost(KeySignal):
    """A request's lease was over and it was taken over, so its answer was refused: `attempt` is its own."""

    attempt: int


@dataclass(frozen=True, slots=True)
class _Executed(Generic[T]):
    result: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(Generic[T]):
    """What to do for one request, as steps.

    Attributes:
        claim: what this request asks for.
        process: runs the user's function.
        commit: what to call with (transaction, result) in the transaction that stores the answer.
        wait: seconds to wait for another request's answer.
    """

    driver: Any
    store: Store
    claim: Claim
    process: Run[T]
    commit: Callable[[Any, T], Any] | None
    wait: float
    max_result_bytes: int

    def in_one_transaction(self) -> Steps[T]:
        """Claim, process and store, all or nothing."""
        if (stored := (yield from self._looking())) is not None:
            return self._replayed(stored)
        patience = _Patience(self)
        while isinstance(outcome := (yield from Atomic(self._executing)), Busy):
            yield patience.pause(outcome)
        if isinstance(outcome, Stored):
            return self._replayed(outcome)
        yield from self._done()
        return outcome.result

    def under_lease(self) -> Steps[T]:
        """Claim; process; store."""
        if (stored := (yield from self._looking())) is not None:
            return self._replayed(stored)
        patience = _Patience(self)
        while isinstance(outcome := (yield from self._claiming()), Busy):
            yield patience.pause(outcome)
        if isinstance(outcome, Stored):
            return self._replayed(outcome)
        if outcome.attempt > 1:
            self.tell(KeyTakenOver, attempt=outcome.attempt)
        stop = self.driver.background(self._heartbeat())
        asked: float | None = None
        try:
            result = yield from self.process
            asked = self.driver.clock.monotonic()
            # Still under the heartbeat: storing may have to wait for others' transactions.
            yield from self._storing(result, outcome)
        except GeneratorExit:
            raise  # nobody is left to carry out a release
        except BaseException as error:
            # Errors are not stored: the next request may execute.
            stop()
            if not self._kept_silent(error, asked):
                yield from self._giving_back()
            raise
        finally:
            stop()
        yield from self._done()
        return result

    # The first phase ------------------------------------------------------------------------------

    def _looking(self) -> Steps[Stored | None]:
        # In SQL a claim writes, and on SQLite waits for the write lock, which a replay does not need.
        if not self.store.transactional:
            return None
        return (yield from self.store.look(self.claim))

    def _executing(self) -> Steps[_Executed[T] | Stored | Busy]:
        outcome = yield from self.store.claim(self.claim)
        if not isinstance(outcome, Claimed):
            return outcome
        result = yield from self.process
        yield from self._completing(result, outcome)
        return _Executed(result)

    def _claiming(self) -> Steps[Claimed | Stored | Busy]:
        asked = self.driver.clock.monotonic()
        try:
            return (yield from self.store.claim(self.claim))
        except (BackendUnavailable, GeneratorExit):
            raise  # certainly not granted, or nobody left to carry out a release
        except BaseException as error:
            if not self._kept_silent(error, asked):
                yield from self._giving_back()
            raise

    # The second phase -----------------------------------------------------------------------------

    def _heartbeat(self) -> Steps[None]:
        """Extend the claim until it is over; what that means is decided when the answer is stored."""
        pause = self.claim.lease / RENEWALS_PER_LEASE
        still_ours = True
        while still_ours:
            # The jitter keeps claims that were made together from being renewed together for ever.
            yield Sleep(pause * self.driver.random.uniform(0.8, 1.0))
            # When the store is away for a moment, there are two more tries before the lease is over.
            with contextlib.suppress(BackendError):
                still_ours = yield from self.store.extend(self.claim)

    def _storing(self, result: T, claimed: Claimed) -> Steps[None]:
        if self.commit is None:
            yield from self._completing(result, claimed)
            return
        commit = self.commit

        def together() -> Steps[None]:
            # The answer first: a request that was taken over must not get as far as the hook.
            yield from self._completing(result, claimed)
            yield from Run(commit, result, join=True)

        yield from Atomic(together)

    def _completing(self, result: T, claimed: Claimed) -> Steps[None]:
        text = results.encode(result, max_result_bytes=self.max_result_bytes)
        if not (yield from self.store.complete(self.claim, text)):
            self.tell(ClaimLost, attempt=claimed.attempt)
            message = f"this request to {self.claim.endpoint} was taken over by its retry; its answer was not stored"
            raise StaleToken(message, token=claimed.attempt, endpoint=self.claim.endpoint)

    def _kept_silent(self, error: BaseException, asked: float | None) -> bool:
        # A store that did not answer for the whole deadline would not answer a release either, and the caller
        # would wait twice; the claim ends by itself.
        waited = 0.0 if asked is None else self.driver.clock.monotonic() - asked
        return isinstance(error, BackendError) and waited >= self.driver.timeout * MOST_OF_DEADLINE

    def _giving_back(self) -> Steps[None]:
        # The claim ends by itself after its lease, so a store that cannot be reached changes nothing.
        with contextlib.suppress(HoldfastError):
            yield from self.store.release(self.claim)

    def _done(self) -> Steps[None]:
        self.tell(KeyStored)
        if self.driver.random.random() * PRUNE_ONE_IN < 1:
            # The answer is stored, and within an open transaction of the user's Atomic is a savepoint: both stand,
            # whatever goes wrong here.
            with contextlib.suppress(Exception):
                yield from Atomic(self._pruning) if self.store.transactional else self._pruning()

    def _pruning(self) -> Steps[None]:
        if (prune := self.store.prune(PRUNE_LIMIT)) is not None:
            yield from prune

    # Answers --------------------------------------------------------------------------------------

    def _replayed(self, stored: Stored) -> T:
        self.check_payload(stored.fingerprint)
        self.tell(KeyReplayed)
        return cast("T", results.decode(stored.result))

    def check_payload(self, first: str) -> None:
        """Refuse this request if the first one with its key had another payload."""
        if differ(first, self.claim.fingerprint):
            self.tell(KeyRefused, reason=KeyReused.code)
            message = f"this idempotency key was used before for {self.claim.endpoint} with another payload"
            raise KeyReused(message, endpoint=self.claim.endpoint)

    def refuse_busy(self, busy: Busy) -> Never:
        """Refuse this request because the first one still runs."""
        self.tell(KeyRefused, reason=KeyInProgress.code)
        message = f"the first request to {self.claim.endpoint} with this idempotency key still runs; ask again"
        retry_after = min(busy.seconds, LONGEST_RETRY_AFTER)
        raise KeyInProgress(message, retry_after=retry_after, endpoint=self.claim.endpoint)

    def tell(self, kind: Callable[..., KeySignal], **facts: object) -> None:
        """Emit a signal about this request."""
        if signals.subscribers:
            signals.emit(kind(identity=self.claim.identity, endpoint=self.claim.endpoint, **facts))


class _Patience:
    """How long and how often one request asks whether the first one is done."""

    def __init__(self, execution: Execution[Any]) -> None:
        self.execution = execution
        self.poll = FIRST_POLL
        self.deadline = execution.driver.clock.monotonic() + execution.wait

    def pause(self, busy: Busy) -> Sleep:
        """Return the sleep until the next look, or raise when waiting is over or useless."""
        execution = self.execution
        if busy.fingerprint is not None:
            execution.check_payload(busy.fingerprint)
        left = self.deadline - execution.driver.clock.monotonic()
        if left <= 0:
            execution.refuse_busy(busy)
        seconds = self.poll * execution.driver.random.uniform(0.5, 1.0)
        self.poll = min(self.poll * 2, LONGEST_POLL)
        return Sleep(min(left, seconds))
