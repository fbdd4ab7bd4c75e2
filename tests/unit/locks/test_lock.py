"""The lock's algorithm on the memory model, in virtual time."""

import asyncio
import contextlib
import math
import os
import random
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import holdfast
from holdfast import signals
from holdfast.backends.memory import Call, MemoryAsync, MemorySync, State
from holdfast.errors import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    InvalidKey,
    LockLost,
    LockNotAcquired,
    OutcomeUnknown,
)
from holdfast.locks import Holder, LeaseEnded, LeaseLost, Lock, RedisLock, ReleaseFailed, RenewalFailed
from holdfast.operations import Sleep
from holdfast.testing.clock import VirtualClock


class Virtual(MemorySync):
    """A memory backend whose sleeps move its clock, and whose calls can be made slow or failing."""

    def __init__(self, clock: VirtualClock | None = None, *, state: State | None = None) -> None:
        self.virtual = clock or VirtualClock()
        super().__init__(state, clock=self.virtual, random=random.Random(1))
        self.calls: list[str] = []
        self.latency = 0.0
        self.lose_replies: type[BaseException] | None = None
        self.refuse: type[BaseException] | None = None
        self.away_from = math.inf

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.virtual.advance(seconds)

    def call(self, request: Call[Any]) -> Any:
        self.calls.append(request.function.__name__.strip("_"))
        if self.virtual.monotonic() >= self.away_from:
            self.refuse = BackendUnavailable
        if self.refuse is not None:
            raise _failure(self.refuse)
        reply = super().call(request)
        if self.latency:
            self.virtual.advance(self.latency)
        if self.lose_replies is not None:
            error, self.lose_replies = self.lose_replies, None
            raise _failure(error)
        return reply


def _failure(kind: type[BaseException]) -> BaseException:
    if issubclass(kind, BackendError):
        return kind("away", backend="memory", operation="acquire")
    return kind()


# -- Asking ----------------------------------------------------------------------------------------------------------


def test_an_uncontended_pair_is_two_requests() -> None:
    """One to acquire, one to release."""
    backend = Virtual()
    with Lock(backend, "name"):
        pass
    assert backend.calls == ["acquire", "release"]


def test_waiting_ends_at_the_timeout() -> None:
    """The last ask comes when the time is over, not after it, and the pauses grow."""
    backend = Virtual()
    Lock(backend, "name", ttl=100).acquire(timeout=0)
    asked = len(backend.calls)
    began = backend.virtual.monotonic()
    assert Lock(backend, "name").acquire(timeout=5) is None
    assert backend.virtual.monotonic() - began == pytest.approx(5)
    assert 20 <= len(backend.calls) - asked <= 60


def test_an_answer_that_came_after_the_ttl_is_no_grant() -> None:
    """A lease that was over when it was told is given back at once."""
    backend = Virtual()
    backend.latency = 3.0
    assert Lock(backend, "name", ttl=2.0).acquire(timeout=0) is None
    assert backend.calls == ["acquire", "release"]


def test_the_way_of_the_answer_is_subtracted() -> None:
    """A lease counts from before it was asked for."""
    backend = Virtual()
    backend.latency = 3.0
    lease = Lock(backend, "name", ttl=10.0).acquire(timeout=0)
    assert lease is not None
    assert lease.remaining == pytest.approx(7.0)


@pytest.mark.parametrize("error", [OutcomeUnknown, KeyboardInterrupt, SystemExit])
def test_what_was_perhaps_granted_is_given_back(error: type[BaseException]) -> None:
    """An interrupted or unanswered acquire leaves nothing locked."""
    backend = Virtual()
    backend.lose_replies = error
    with pytest.raises(error):
        Lock(backend, "name", ttl=100).acquire()
    assert backend.calls == ["acquire", "release"]
    assert Lock(backend, "name").acquire(timeout=0) is not None


def test_what_was_certainly_not_granted_is_not_given_back() -> None:
    """A store that was not reached is not asked again."""
    backend = Virtual()
    backend.refuse = BackendUnavailable
    with pytest.raises(BackendUnavailable):
        Lock(backend, "name").acquire()
    assert backend.calls == ["acquire"]


# -- Holding ---------------------------------------------------------------------------------------------------------


def test_an_error_in_the_block_goes_through_and_the_lock_is_free() -> None:
    """The block's own exception is what the caller sees."""
    backend = Virtual()
    with pytest.raises(ZeroDivisionError), Lock(backend, "name"):
        raise ZeroDivisionError
    assert Lock(backend, "name").acquire(timeout=0) is not None


def test_a_lease_that_ended_in_the_block_is_told_once() -> None:
    """The block ends in `LockLost` and one signal; an error of its own gets a note instead."""
    heard: list[LeaseLost] = []
    unsubscribe = signals.subscribe(LeaseLost, heard.append)
    backend = Virtual()
    lock = Lock(backend, "name", ttl=1.0, heartbeat=False)
    with pytest.raises(LockLost, match="name"), lock:
        backend.virtual.advance(2.0)

    def fail_too_late() -> None:
        with lock:
            backend.virtual.advance(2.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail_too_late()
    unsubscribe()
    assert [record.name for record in heard] == ["name", "name"]
    assert "name" in caught.value.__notes__[0]


def test_check_raises_between_the_steps_of_long_work() -> None:
    """`lease.check()` is the look before each step."""
    backend = Virtual()
    lease = Lock(backend, "name", ttl=1.0).acquire()
    assert lease is not None
    lease.check()
    backend.virtual.advance(1.0)
    with pytest.raises(LockLost) as caught:
        lease.check()
    assert caught.value.facts == {"key": "name", "token": lease.token}


def test_a_failed_release_is_told_and_not_raised() -> None:
    """The work is done; the lock ends after its TTL."""
    heard: list[ReleaseFailed] = []
    unsubscribe = signals.subscribe(ReleaseFailed, heard.append)
    backend = Virtual()
    with Lock(backend, "name"):
        backend.refuse = BackendUnavailable
    unsubscribe()
    assert [record.name for record in heard] == ["name"]


def test_a_heartbeat_renews_until_its_store_is_away_for_a_whole_ttl() -> None:
    """Renewals come every third of the TTL; a failed one is repeated; the end is told once."""
    backend = Virtual()
    lease = Lock(backend, "name", ttl=30.0).acquire()
    assert lease is not None
    lost: list[bool] = []
    backend.away_from = 300.0
    backend.run(lease.heartbeat(lambda: lost.append(True)))
    assert lost == [True]
    assert not lease.held
    assert 310.0 <= backend.virtual.monotonic() <= 330.0
    # About 30 that succeeded, and at least two tries after the store was gone.
    assert 32 <= backend.calls.count("extend") <= 60


def test_two_tokens_of_one_name_grow() -> None:
    """Also over an end by TTL."""
    backend = Virtual()
    tokens = []
    for _ in range(5):
        lease = Lock(backend, "name", ttl=1.0).acquire(timeout=0)
        assert lease is not None
        tokens.append(lease.token)
        backend.virtual.advance(1.0)
    assert tokens == sorted(set(tokens))


def test_a_lease_that_was_over_before_its_block_began_is_lost() -> None:
    """A pause between the grant and the first beat of its heart is no `StopIteration` in the caller."""
    backend = Virtual()
    lease = Lock(backend, "name", ttl=1.0).acquire()
    assert lease is not None
    backend.virtual.advance(2.0)
    lost: list[bool] = []
    steps = lease.heartbeat(lambda: lost.append(True))
    assert isinstance(next(steps), Sleep)
    backend.run(steps)
    assert lost == [True]


def test_an_unanswered_shortening_is_believed() -> None:
    """The store may have shortened the lease: `held` promises no more than that."""
    backend = Virtual()
    lease = Lock(backend, "name", ttl=30.0).acquire()
    assert lease is not None
    backend.lose_replies = OutcomeUnknown
    with pytest.raises(OutcomeUnknown):
        lease.extend(ttl=2.0)
    backend.virtual.advance(3.0)
    assert Lock(backend, "name").acquire(timeout=0) is not None
    assert not lease.held


@pytest.mark.parametrize("last", ["longer", "shorter"])
def test_of_two_extensions_that_cross_the_shorter_counts(last: str) -> None:
    """The store keeps the one that it heard last, and nobody knows which that is."""
    backend = Virtual()
    lease = Lock(backend, "name", ttl=30.0).acquire()
    assert lease is not None
    longer, shorter = lease.extending(30.0), lease.extending(0.5)
    requests = [(longer, next(longer)), (shorter, next(shorter))]
    in_the_store = requests if last == "shorter" else requests[::-1]
    for steps, answer in [(steps, request.carry(backend)) for steps, request in in_the_store]:
        with pytest.raises(StopIteration):
            steps.send(answer)
    assert lease.remaining <= 0.5
    assert lease.extend()
    assert lease.remaining == pytest.approx(30.0), "alone again, it counts whole"


@pytest.mark.parametrize("kind", [OutcomeUnknown, ZeroDivisionError])
def test_whatever_a_renewal_raises_the_heart_beats_on(kind: type[Exception]) -> None:
    """The driver's own errors, too: the holder is told when the lease is over, not before and never not."""
    heard: list[RenewalFailed] = []
    unsubscribe = signals.subscribe(RenewalFailed, heard.append)
    backend = Virtual()
    lease = Lock(backend, "name", ttl=30.0).acquire()
    assert lease is not None
    lost: list[float] = []
    backend.refuse = kind
    backend.run(lease.heartbeat(lambda: lost.append(backend.virtual.monotonic())))
    unsubscribe()
    assert lost == [pytest.approx(30.0)]
    assert len(heard) >= 5
    assert {type(record.error) for record in heard} == {kind}


def test_every_lease_that_is_given_back_may_tidy_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `release` as well as at the end of a block: what has ended long ago goes some day."""
    monkeypatch.setattr("holdfast.locks.lease.PRUNE_ONE_IN", 1)
    monkeypatch.setattr("holdfast.locks.memory.prune", lambda: Call(lambda _: pruned.append(True)))
    pruned: list[bool] = []
    lease = Lock(Virtual(), "name").acquire()
    assert lease is not None
    assert lease.release()
    with Lock(Virtual(), "name"):
        pass
    assert pruned == [True, True]


async def test_a_block_without_heartbeat_is_interrupted_at_its_end() -> None:
    """At the moment when its TTL is over, not when it happens to look."""
    begun = time.monotonic()
    with pytest.raises(LockLost):
        async with Lock(MemoryAsync(), "name", ttl=0.05, heartbeat=False):
            await asyncio.sleep(30)
    assert time.monotonic() - begun < 5


def test_a_renewal_that_meets_a_release_is_no_loss() -> None:
    """An extension that was under way in the background when the lock was given back tells no `LeaseLost`."""
    heard: list[LeaseLost] = []
    unsubscribe = signals.subscribe(LeaseLost, heard.append)
    backend = Virtual()
    lease = Lock(backend, "name", ttl=30.0).acquire()
    assert lease is not None
    renewal = lease.extending(30.0)
    request = next(renewal)
    assert lease.release()
    with pytest.raises(StopIteration):
        renewal.send(request.carry(backend))
    unsubscribe()
    assert heard == []


def test_a_block_inside_a_lost_one_leaves_both() -> None:
    """The inner block ends well, and the outer one in `LockLost`."""
    backend = Virtual()
    lock = Lock(backend, "name", ttl=1.0, heartbeat=False)

    def enter_again_too_late() -> None:
        with lock:
            backend.virtual.advance(2.0)
            with lock as inner:
                assert inner.held

    with pytest.raises(LockLost):
        enter_again_too_late()
    assert Lock(backend, "name").acquire(timeout=0) is not None


def test_a_block_that_another_thread_leaves_is_given_back() -> None:
    """Frameworks enter and leave a generator's block in different threads of a pool."""
    backend = Virtual()
    lock = Lock(backend, "name")
    lock.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lock.__exit__, None, None, None).result()
    assert Lock(backend, "name").acquire(timeout=0) is not None


async def test_a_cancellation_that_meets_our_interruption_is_not_swallowed() -> None:
    """A block that ends as both arrive ends in the cancellation, which is not the lock's to take back."""
    backend = MemoryAsync()
    lock = Lock(backend, "name", ttl=100.0)

    async def work() -> None:
        async with lock:
            ((_, block),) = lock._blocks
            block._interrupt()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await Lock(backend, "name").acquire(timeout=0) is not None


# -- Looking, and ending by force ------------------------------------------------------------------------------------


def test_a_forced_release_is_told_to_the_audit_log() -> None:
    """Who ended whose lease, and why; nothing is told when there was none."""
    heard: list[LeaseEnded] = []
    unsubscribe = signals.subscribe(LeaseEnded, heard.append)
    backend = Virtual()
    Lock(backend, "name", ttl=30.0, label="worker").acquire()
    backend.virtual.advance(12.0)
    operator = Lock(backend, "name", label="anna")
    ended = operator.force_release(reason="its host is gone")
    assert operator.force_release(reason="again") is None
    unsubscribe()
    assert ended == Holder(label="worker", token=1, age=12.0, remaining=18.0)
    assert heard == [LeaseEnded(name="name", holder=ended, by="anna", reason="its host is gone")]


def test_a_holder_without_a_label_is_host_and_process() -> None:
    """So that somebody can go and look."""
    backend = Virtual()
    Lock(backend, "name").acquire()
    held = Lock(backend, "name").peek()
    assert held is not None
    assert held.label == f"{socket.gethostname()}:{os.getpid()}"


def test_the_secret_of_an_owner_is_not_told() -> None:
    """It is what extends and releases."""
    backend = Virtual()
    lease = Lock(backend, "name", label="me").acquire()
    assert lease is not None
    secret = lease._owner.partition(" ")[0]
    assert len(secret) == 32
    held = Lock(backend, "name").peek()
    assert secret not in repr((held, lease))


@pytest.mark.parametrize("reason", ["", "a\nb", "x" * 256, None])
def test_a_forced_release_wants_a_reason(reason: Any) -> None:
    with pytest.raises(InvalidKey, match="reason"):
        Lock(Virtual(), "name").force_release(reason=reason)


# -- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ttl": 0}, "ttl=0"),
        ({"ttl": -1}, "ttl=-1"),
        ({"ttl": math.inf}, "ttl=inf"),
        ({"ttl": math.nan}, "ttl=nan"),
        ({"ttl": "30"}, "ttl='30'"),
        ({"timeout": -0.1}, "timeout=-0.1"),
        ({"request_timeout": 0}, "timeout=0"),
        ({"heartbeat": "no"}, "heartbeat='no'"),
        ({"heartbeat": None}, "heartbeat=None"),
        ({"label": ""}, "label must have 1 to 255"),
        ({"label": "a\nb"}, "label='a"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], named: str) -> None:
    """Before anything was done."""
    backend = Virtual()
    with pytest.raises(ConfigurationError, match=named):
        Lock(backend, "name", **options)
    assert backend.calls == []


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "a\nb", "\ud800", 7, None])
def test_a_wrong_name_is_refused(name: Any) -> None:
    """What no backend could store is refused by all."""
    with pytest.raises(InvalidKey, match="name"):
        Lock(Virtual(), name)


def test_a_redis_lock_wants_redis() -> None:
    """The name says where the lock lives, so another backend is an error."""
    with pytest.raises(ConfigurationError, match="redis"):
        RedisLock(Virtual(), "name")


def test_one_connection_of_the_users_is_refused() -> None:
    """A lease in a transaction of theirs is seen by nobody, gone with a rollback, and cannot be renewed beside it."""
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(ConfigurationError, match=r"sqlite3\.Connection.* give holdfast\.connect\(URL\), a pool"),
    ):
        Lock(connection, "name")
    with (
        holdfast.connect("sqlite:///:memory:") as db,
        db.transaction() as tx,
        pytest.raises(ConfigurationError, match="part of your transaction"),
    ):
        Lock(tx, "name")


def test_a_lock_that_stays_taken_raises_in_a_block() -> None:
    """With the name of the lock, and not a moment before the timeout."""
    backend = Virtual()
    Lock(backend, "name", ttl=100).acquire()
    with pytest.raises(LockNotAcquired, match="name") as caught, Lock(backend, "name", timeout=3):
        raise AssertionError("entered")
    assert caught.value.facts["key"] == "name"
    assert backend.virtual.monotonic() == pytest.approx(3)


async def test_the_wrong_colour_is_told_at_once() -> None:
    """Without a request."""
    awaited: Any = Lock(MemoryAsync(), "name")
    with pytest.raises(ConfigurationError, match="async with"), awaited:
        pass
