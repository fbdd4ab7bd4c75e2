"""The algorithm on the memory model, in virtual time."""

import asyncio
import functools
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast import connect, connect_async, retry, signals
from holdfast.backends.memory import Call, MemoryAsync, MemorySync, State
from holdfast.errors import (
    BackendUnavailable,
    ConfigurationError,
    KeyInProgress,
    KeyMissing,
    KeyReused,
    OutcomeUnknown,
    StaleToken,
)
from holdfast.idempotency import (
    ClaimLost,
    KeyRefused,
    KeyReplayed,
    KeyStored,
    KeyTakenOver,
    idempotent_execute,
)
from holdfast.operations import Sleep, Steps
from holdfast.testing.clock import VirtualClock


class Heartbeat:
    """Background steps that a test carries out by hand."""

    def __init__(self, db: "Virtual", steps: Steps[None]) -> None:
        self.db = db
        self.steps = steps
        self.due = next(steps)

    def beat(self) -> bool:
        """Let the time pass to the next step and carry it out; False when the steps have ended."""
        try:
            self.due.carry(self.db)
            request = self.steps.send(None)
            while not isinstance(request, Sleep):
                try:
                    reply = request.carry(self.db)
                except BackendUnavailable as error:
                    request = self.steps.throw(error)
                else:
                    request = self.steps.send(reply)
        except StopIteration:
            return False
        self.due = request
        return True


class Virtual(MemorySync):
    """A memory backend whose sleeps move its clock, with background steps that a test carries out by hand."""

    def __init__(self, state: State | None = None, clock: VirtualClock | None = None) -> None:
        self.virtual = clock or VirtualClock()
        super().__init__(state, clock=self.virtual, random=random.Random(1))
        self.calls: list[str] = []
        self.slept: list[float] = []
        self.failing: dict[str, Exception] = {}
        self.lost_replies: dict[str, BaseException] = {}
        self.heartbeats: list[Heartbeat] = []
        self.stopped = 0

    def other(self) -> "Virtual":
        """Return another process on the same store."""
        return Virtual(self.state, self.virtual)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.virtual.advance(seconds)

    def call(self, request: Call[Any]) -> Any:
        name = request.function.__name__.strip("_")
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]
        reply = super().call(request)
        if name in self.lost_replies:
            raise self.lost_replies[name]
        return reply

    def background(self, steps: Steps[None]) -> Callable[[], None]:
        self.heartbeats.append(Heartbeat(self, steps))

        def stop() -> None:
            self.stopped += 1

        return stop


@pytest.fixture
def db() -> Virtual:
    return Virtual()


@pytest.fixture
def heard() -> Iterator[list[signals.Signal]]:
    records: list[signals.Signal] = []
    end = signals.subscribe(signals.Signal, records.append)
    yield records
    end()


def pay() -> str:
    return "paid"


def unknown() -> OutcomeUnknown:
    return OutcomeUnknown("no answer", backend="memory", operation="claim")


def away() -> BackendUnavailable:
    return BackendUnavailable("away", backend="memory", operation="claim")


# -- Round trips and waiting ------------------------------------------------------------


def test_a_first_request_costs_two_round_trips_and_a_replay_one(db: Virtual) -> None:
    idempotent_execute(db, "k", "/p", pay)
    assert db.calls == ["claim", "complete"]
    idempotent_execute(db, "k", "/p", pay)
    assert db.calls == ["claim", "complete", "claim"]


def test_waiting_is_bounded_and_grows_slower_between_looks(db: Virtual) -> None:
    def twice() -> str:
        with pytest.raises(KeyInProgress) as caught:
            idempotent_execute(other, "k", "/p", pay, wait=3.0)
        assert caught.value.retry_after == 1.0
        return "paid"

    other = db.other()
    idempotent_execute(db, "k", "/p", twice, lease=60.0)
    assert sum(other.slept) == pytest.approx(3.0)
    assert max(other.slept) <= 0.25
    assert len(other.calls) < 40


def test_a_request_that_refuses_to_wait_asks_once(db: Virtual) -> None:
    def twice() -> str:
        with pytest.raises(KeyInProgress):
            idempotent_execute(db, "k", "/p", pay, wait=0)
        return "paid"

    idempotent_execute(db, "k", "/p", twice)
    assert db.slept == []


def test_a_waiter_gets_the_answer_or_its_turn(db: Virtual) -> None:
    """A waiter whose predecessor died executes as soon as the lease is over, not later."""
    other = db.other()

    def dies() -> str:
        assert idempotent_execute(other, "k", "/p", lambda: "second", lease=10.0, wait=30.0) == "second"
        return "first"

    with pytest.raises(StaleToken):
        idempotent_execute(db, "k", "/p", dies, lease=10.0)
    assert 10.0 <= sum(other.slept) <= 10.25


# -- What is left after something went wrong ------------------------------------------------------------


def test_a_claim_whose_answer_was_lost_is_given_back(db: Virtual) -> None:
    db.lost_replies["claim"] = unknown()
    with pytest.raises(OutcomeUnknown):
        idempotent_execute(db, "k", "/p", pay)
    assert idempotent_execute(db.other(), "k", "/p", pay, wait=0) == "paid"


def test_an_interrupted_claim_is_given_back(db: Virtual) -> None:
    db.lost_replies["claim"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        idempotent_execute(db, "k", "/p", pay)
    assert idempotent_execute(db.other(), "k", "/p", pay, wait=0) == "paid"


def test_nothing_runs_when_the_store_is_away(db: Virtual) -> None:
    db.failing["claim"] = away()
    with pytest.raises(BackendUnavailable):
        idempotent_execute(db, "k", "/p", lambda: pytest.fail("ran"))
    assert db.calls == ["claim"]


def test_an_interrupted_function_leaves_no_claim(db: Virtual) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        idempotent_execute(db, "k", "/p", interrupted)
    assert idempotent_execute(db, "k", "/p", pay, wait=0) == "paid"
    assert db.stopped >= len(db.heartbeats) == 2


def test_an_answer_that_was_stored_with_a_lost_reply_stays(db: Virtual) -> None:
    """After `OutcomeUnknown`, the retry finds out: here it was stored, so nothing runs again."""
    db.lost_replies["complete"] = unknown()
    with pytest.raises(OutcomeUnknown):
        idempotent_execute(db, "k", "/p", pay)
    assert idempotent_execute(db.other(), "k", "/p", lambda: "again") == "paid"


def test_the_functions_own_error_comes_through_when_the_store_is_away_too(db: Virtual) -> None:
    def fails() -> str:
        db.failing["release"] = away()
        raise ValueError("declined")

    with pytest.raises(ValueError, match="declined"):
        idempotent_execute(db, "k", "/p", fails, lease=5.0)
    db.virtual.advance(5.0)
    assert idempotent_execute(db.other(), "k", "/p", pay) == "paid"


async def test_a_cancelled_function_leaves_no_claim() -> None:
    db = MemoryAsync()
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(idempotent_execute(db, "k", "/p", forever))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await idempotent_execute(db, "k", "/p", _pay_async, wait=0) == "paid"


async def _pay_async() -> str:
    return "paid"


# -- The lease ------------------------------------------------------------


def test_a_first_request_that_was_taken_over_is_refused(db: Virtual) -> None:
    """Its lease ended while it stood still; the answer of its retry counts."""

    def stands_still() -> str:
        db.virtual.advance(10.0)
        assert idempotent_execute(db.other(), "k", "/p", lambda: "second") == "second"
        return "first"

    with pytest.raises(StaleToken, match="taken over") as caught:
        idempotent_execute(db, "k", "/p", stands_still, lease=10.0)
    assert caught.value.__dict__["token"] == 1
    assert idempotent_execute(db, "k", "/p", pay) == "second"


def test_a_slow_first_request_that_nobody_took_over_is_not_refused(db: Virtual) -> None:
    def stands_still() -> str:
        db.virtual.advance(11.0)
        return "first"

    assert idempotent_execute(db, "k", "/p", stands_still, lease=10.0) == "first"


def test_a_heartbeat_extends_the_claim_and_ends_with_the_function(db: Virtual) -> None:
    def slow() -> str:
        for _ in range(9):
            assert db.heartbeats[0].beat()
            with pytest.raises(KeyInProgress):
                idempotent_execute(db.other(), "k", "/p", pay, wait=0)
        return "paid"

    idempotent_execute(db, "k", "/p", slow, lease=6.0)
    assert db.virtual.monotonic() > 12.0
    assert db.stopped
    assert not db.heartbeats[0].beat(), "a beat that was on its way finds the answer stored, and is the last"


def test_a_heartbeat_survives_a_store_that_is_away_for_a_moment(db: Virtual, heard: list[signals.Signal]) -> None:
    def slow() -> str:
        db.failing["extend"] = away()
        assert db.heartbeats[0].beat()
        del db.failing["extend"]
        assert db.heartbeats[0].beat()
        return "paid"

    assert idempotent_execute(db, "k", "/p", slow, lease=9.0) == "paid"
    assert [type(record) for record in heard] == [KeyStored]


def test_a_lost_claim_is_told_and_no_longer_extended(db: Virtual, heard: list[signals.Signal]) -> None:
    def stands_still() -> str:
        db.virtual.advance(10.0)
        idempotent_execute(db.other(), "k", "/p", pay)
        assert not db.heartbeats[0].beat()
        return "first"

    with pytest.raises(StaleToken):
        idempotent_execute(db, "k", "/p", stands_still, lease=10.0)
    assert [type(record) for record in heard] == [KeyTakenOver, KeyStored, ClaimLost]
    assert [record.attempt for record in heard if isinstance(record, (KeyTakenOver, ClaimLost))] == [2, 1]


# -- Signals and secrets ------------------------------------------------------------


def test_every_decision_is_told_without_the_key(db: Virtual, heard: list[signals.Signal]) -> None:
    def twice() -> str:
        with pytest.raises(KeyInProgress):
            idempotent_execute(db, "s3cret", "/p", pay, payload=1, wait=0)
        return "paid"

    idempotent_execute(db, "s3cret", "/p", twice, payload=1)
    idempotent_execute(db, "s3cret", "/p", pay, payload=1)
    with pytest.raises(KeyReused) as caught:
        idempotent_execute(db, "s3cret", "/p", pay, payload=2)
    assert [type(record) for record in heard] == [KeyRefused, KeyStored, KeyReplayed, KeyRefused]
    assert [record.reason for record in heard if isinstance(record, KeyRefused)] == [KeyInProgress.code, KeyReused.code]
    assert "s3cret" not in repr(heard) + repr(caught.value.facts) + str(caught.value)


# -- Arguments ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": None}, "key is missing"),
        ({"key": ""}, "key is missing"),
        ({"key": "x" * 256}, "key must have 1 to 255"),
        ({"key": 7}, "key must be a str"),
        ({"endpoint": ""}, "endpoint must have 1 to 255"),
        ({"scope": "a\nb"}, "scope="),
        ({"ttl": 0}, "ttl=0 "),
        ({"ttl": float("inf")}, "ttl=inf"),
        ({"ttl": 1e12}, "ttl="),
        ({"lease": -1}, "lease=-1"),
        ({"wait": -0.1}, "wait=-0.1"),
        ({"max_result_bytes": 0}, "max_result_bytes=0"),
        ({"payload": object()}, "payload is a object"),
        ({"process": "pay"}, "process='pay'"),
        ({"process": lambda tx: tx}, "process must take no argument under a lease"),
        ({"process": lambda tx, more: (tx, more)}, "process needs 2 arguments"),
        ({"commit": lambda tx, result: None}, "commit needs a database with transactions"),
        ({"db": object()}, "a client of type builtins.object"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_done(db: Virtual, options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"db": db, "key": "k", "endpoint": "/p", "process": lambda: pytest.fail("ran")}
    with pytest.raises((ConfigurationError, KeyMissing), match=message):
        idempotent_execute(**(arguments | options))
    assert db.calls == []


class Payments:
    def pay(self) -> str:
        return "paid"

    def pay_in(self, tx: Any) -> str:
        return f"paid in {tx.dialect}"

    def __call__(self, tx: Any) -> str:
        return f"paid in {tx.dialect}"


def pay_in(tx: Any) -> str:
    return f"paid in {tx.dialect}"


def pay_more(amount: int, tx: Any) -> str:
    return f"paid {amount} in {tx.dialect}"


def passing_on(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def providing(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function(State())

    return wrapper


def described(function: Any) -> Any:
    """Wrap `function` as decorators do that describe themselves, rather than with what they wrap."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    wrapper.__dict__["__signature__"] = inspect.signature(function)
    return wrapper


class DecoratedPayments:
    @passing_on
    def pay(self) -> str:
        return "paid"

    @passing_on
    def pay_in(self, tx: Any) -> str:
        return f"paid in {tx.dialect}"


@pytest.mark.parametrize(
    ("process", "answer"),
    [
        (pay, "paid"),
        (retry(max_attempts=2)(pay), "paid"),
        (retry(max_attempts=2)(pay_in), "paid in sqlite"),
        (passing_on(passing_on(pay_in)), "paid in sqlite"),
        (passing_on(Payments().pay_in), "paid in sqlite"),
        (passing_on(functools.partial(pay_more, 3)), "paid 3 in sqlite"),
        (described(pay_in), "paid in sqlite"),
        (providing(lambda state: f"paid at {state.now >= 0}"), "paid at True"),
        (DecoratedPayments().pay, "paid"),
        (DecoratedPayments().pay_in, "paid in sqlite"),
        (lambda *args: f"paid {args}", "paid ()"),
        (pay_in, "paid in sqlite"),
        (lambda: "paid", "paid"),
        (lambda amount=3: f"paid {amount}", "paid 3"),
        (Payments().pay, "paid"),
        (Payments().pay_in, "paid in sqlite"),
        (Payments(), "paid in sqlite"),
        (functools.partial(pay_more, 3), "paid 3 in sqlite"),
        (functools.partial(pay_more, 3, Payments), "error"),
        (dict, {}),
    ],
)
def test_a_function_gets_the_transaction_if_it_asks_for_one(process: Any, answer: Any) -> None:
    with connect("sqlite:///:memory:") as db:
        if answer == "error":
            with pytest.raises(AttributeError):
                idempotent_execute(db, "k", "/p", process)
        else:
            assert idempotent_execute(db, "k", "/p", process) == answer


async def test_an_async_backend_takes_plain_functions_too() -> None:
    async with connect_async("memory://") as db:
        plain: Any = pay
        assert await idempotent_execute(db, "k", "/p", plain) == "paid"


def plain_commit(tx: Any, result: str) -> None:
    raise AssertionError((tx, result))


async def pay_in_async(tx: Any) -> str:
    return f"paid in {tx.dialect}"


class AsyncPayments:
    async def __call__(self, tx: Any) -> str:
        return f"paid in {tx.dialect}"

    def pay_in(self, tx: Any) -> str:
        raise AssertionError(tx)


@pytest.mark.parametrize(
    ("process", "commit", "message"),
    [
        (pay_in, None, "process is a plain `def`, .*: make it an `async def`"),
        (AsyncPayments().pay_in, None, "process is a plain `def`"),
        (lambda: pytest.fail("ran"), plain_commit, "commit is a plain `def`"),
        (lambda tx: f"paid in {tx.dialect}", None, "process behaves like a plain `def`"),
        (passing_on(pay_in), None, "process behaves like a plain `def`"),
        (Payments(), None, "process behaves like a plain `def`"),
        (pay, "commit", "commit='commit'"),
    ],
)
async def test_a_plain_function_cannot_write_with_an_asyncio_client(process: Any, commit: Any, message: str) -> None:
    """Its `tx.execute(...)` would not be awaited: the effect lost, the answer stored."""
    async with connect_async("sqlite:///:memory:") as db:
        with pytest.raises(ConfigurationError, match=message):
            await idempotent_execute(db, "k", "/p", process, commit=commit)
        assert await idempotent_execute(db, "k", "/p", pay_in_async, wait=0) == "paid in sqlite"


@pytest.mark.parametrize(
    "process",
    [
        AsyncPayments(),
        passing_on(pay_in_async),
        retry(max_attempts=2)(pay_in_async),
        lambda tx, pays=pay_in_async: pays(tx),
        functools.partial(pay_in_async),
    ],
)
async def test_whatever_returns_an_awaitable_can_write_with_an_asyncio_client(process: Any) -> None:
    async with connect_async("sqlite:///:memory:") as db:
        assert await idempotent_execute(db, "k", "/p", process) == "paid in sqlite"


@pytest.mark.parametrize(
    ("process", "verb"),
    [(pay_in_async, "is"), (AsyncPayments(), "is"), (lambda tx, pays=pay_in_async: pays(tx), "behaves like")],
)
def test_nobody_awaits_with_a_blocking_client(process: Any, verb: str) -> None:
    with connect("sqlite:///:memory:") as db:
        with pytest.raises(ConfigurationError, match=f"process {verb} an `async def`, .*: make it a `def`"):
            idempotent_execute(db, "k", "/p", process)
        assert idempotent_execute(db, "k", "/p", pay, wait=0) == "paid"


def test_keyword_only_arguments_are_not_for_us(db: Virtual) -> None:
    def process(*, amount: int = 3) -> int:
        return amount

    assert idempotent_execute(db, "k", "/p", process) == 3


def test_a_full_memory_refuses_rather_than_forget(db: Virtual) -> None:
    small = MemorySync(State(max_entries=2))
    for key in ("a", "b"):
        idempotent_execute(small, key, "/p", pay)
    with pytest.raises(BackendUnavailable, match="full"):
        idempotent_execute(small, "c", "/p", pay)
    assert idempotent_execute(small, "a", "/p", lambda: "again") == "paid"
