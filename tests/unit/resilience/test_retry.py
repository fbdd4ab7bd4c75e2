"""Retry: schedule, bounds, what is never retried, notes, and the faults of other retries."""

import asyncio
import inspect
import random
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast import signals
from holdfast.errors import (
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    LockNotAcquired,
    OutcomeUnknown,
    RateLimited,
)
from holdfast.resilience import RetriesExhausted, RetryScheduled, any_exception, retry
from holdfast.testing.clock import VirtualClock


class Flaky:
    """A dependency that raises the given errors, one a call, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    async def fetch(self) -> str:
        return self()


class Dice(random.Random):
    """Dice that always show the same: 1.0 is the longest wait of full jitter."""

    def __init__(self, shown: float = 1.0) -> None:
        super().__init__()
        self.shown = shown

    def random(self) -> float:
        return self.shown


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that only sleeping moves."""
    return VirtualClock()


def run(flaky: Flaky, *, color: str, **options: Any) -> str:
    """Call `flaky` through retry, as a sync or an async function."""
    if color == "sync":
        return retry(**options)(flaky)()
    return asyncio.run(retry(**options)(flaky.fetch)())


colors = pytest.mark.parametrize("color", ["sync", "async"])


@colors
def test_it_calls_again_until_it_succeeds(color: str, clock: VirtualClock) -> None:
    """The waits double: with dice at their highest, 1 s and 2 s."""
    flaky = Flaky(ConnectionError(), TimeoutError())
    assert run(flaky, color=color, clock=clock, sleep=clock.advance, random=Dice()) == "answer"
    assert flaky.calls == 3
    assert clock.monotonic() == 3.0


@colors
def test_max_attempts_counts_all_calls(color: str, clock: VirtualClock) -> None:
    """max_attempts=3 makes three calls, and the last error comes through as it is."""
    errors = [ConnectionError(number) for number in range(5)]
    flaky = Flaky(*errors)
    with pytest.raises(ConnectionError) as raised:
        run(flaky, color=color, max_attempts=3, clock=clock, sleep=clock.advance, random=Dice(0.5))
    assert flaky.calls == 3
    assert raised.value is errors[2]
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    (note,) = raised.value.__notes__
    assert re.match(r"holdfast retry of \S+: 3 attempts[,;]", note)
    assert note.endswith(", after waits of 0.5 s, 1 s; max_attempts=3 reached")
    assert note in "".join(traceback.format_exception(raised.value))


def test_an_exception_that_is_kept_and_raised_again_collects_no_notes() -> None:
    """One note of each retry it went through, the last one, and nobody else's is touched."""
    kept = ConnectionError("cached")
    kept.add_note("somebody else's")

    @retry(max_attempts=2, base_delay=0, name="inner")
    def inner() -> None:
        raise kept

    @retry(max_attempts=2, base_delay=0, name="outer")
    def outer() -> None:
        inner()

    for _ in range(5):
        with pytest.raises(ConnectionError):
            outer()
    assert kept.__notes__ == [
        "somebody else's",
        "holdfast retry of inner: 2 attempts, after waits of 0 s; max_attempts=2 reached",
        "holdfast retry of outer: 2 attempts, after waits of 0 s; max_attempts=2 reached",
    ]


def test_jitter_is_full() -> None:
    """Waits fill the whole interval from 0, evenly."""
    waits: list[float] = []
    for _ in range(2000):
        retry(sleep=waits.append, base_delay=8.0)(Flaky(ConnectionError()))()
    for quarter in range(4):
        share = sum(quarter * 2.0 <= wait < (quarter + 1) * 2.0 for wait in waits) / len(waits)
        assert 0.2 < share < 0.3


@colors
def test_a_wait_of_zero_does_not_sleep(color: str) -> None:
    """base_delay=0 tries again at once, without a call of sleep."""
    flaky = Flaky(ConnectionError(), ConnectionError())
    assert run(flaky, color=color, base_delay=0, sleep=lambda _: pytest.fail("slept")) == "answer"


@colors
@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        FutureCancelledError(),
        SystemExit(),
        CircuitOpen("open", retry_after=1.0),
        ValueError("a bug"),
        PermissionError("stays refused"),
    ],
    ids=repr,
)
def test_what_is_never_retried(color: str, error: BaseException, idempotent: bool) -> None:  # noqa: FBT001
    """Cancellation, interrupts, open circuits and lasting errors come out of the first attempt, unchanged."""
    flaky = Flaky(error)
    on = any_exception if not isinstance(error, (ValueError, PermissionError)) else (ConnectionError,)
    with pytest.raises(type(error)):
        run(flaky, color=color, on=on, idempotent=idempotent, base_delay=0)
    assert flaky.calls == 1
    assert not hasattr(error, "__notes__")


def test_an_interrupt_is_not_retried() -> None:
    """Control-C ends a sync call and a coroutine at once; driven by hand, for a runner would stop too."""
    flaky = Flaky(KeyboardInterrupt(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        retry(on=any_exception)(flaky)()
    with pytest.raises(KeyboardInterrupt):
        retry(on=any_exception)(flaky.fetch)().send(None)
    assert flaky.calls == 2


@pytest.mark.parametrize(
    "refusal", [RateLimited("r", retry_after=1.0), BulkheadFull("b"), LockNotAcquired("l")], ids=repr
)
def test_a_refusal_is_retried_only_when_named(refusal: Exception) -> None:
    """By default a policy's no is final; a user who knows better names its type."""
    with pytest.raises(type(refusal)):
        retry(base_delay=0)(Flaky(refusal))()
    assert retry(base_delay=0, on=type(refusal), sleep=lambda _: None)(Flaky(refusal))() == "answer"


def test_an_unknown_outcome_is_retried_only_when_idempotent() -> None:
    """What was perhaps done is not done again unless that does no harm."""
    unknown = OutcomeUnknown("cut off", backend="postgresql", operation="append")
    for on in (any_exception, OutcomeUnknown):
        with pytest.raises(OutcomeUnknown):
            retry(on=on, base_delay=0)(Flaky(unknown))()
    assert retry(idempotent=True, base_delay=0)(Flaky(unknown))() == "answer"


async def test_a_cancelled_task_stops_even_when_a_client_hides_the_cancellation() -> None:
    """A cancellation that a client turns into a ConnectionError is not retried."""
    calls = 0

    @retry(base_delay=0)
    async def call() -> None:
        nonlocal calls
        calls += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("connection closed while reading") from None

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ConnectionError):
        await task
    assert calls == 1


async def test_cancelling_the_wait_ends_it() -> None:
    """A cancellation between two attempts comes through, and nothing is called again."""
    flaky = Flaky(ConnectionError())
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(retry(sleep=sleep, random=Dice())(flaky.fetch)())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flaky.calls == 1


class TestOn:
    """The parameter `on`."""

    def test_types_and_predicates(self) -> None:
        """A type, several types, or a function of the exception."""
        for on in (KeyError, [KeyError], {KeyError, ValueError}, lambda error: isinstance(error, KeyError)):
            assert retry(on=on, base_delay=0)(Flaky(KeyError()))() == "answer"
        with pytest.raises(ValueError, match="other"):
            retry(on=KeyError, base_delay=0)(Flaky(ValueError("other")))()

    @pytest.mark.parametrize("on", [Exception, BaseException, {Exception}, (ValueError, Exception)])
    def test_everything_at_large_is_refused(self, on: Any) -> None:
        """Retrying what cannot succeed is refused with the reason and both ways out."""
        with pytest.raises(ConfigurationError, match=r"repeat what cannot succeed.*on=any_exception"):
            retry(on=on)

    def test_everything_on_purpose(self) -> None:
        """The escape is a name that says it."""
        assert retry(on=any_exception, base_delay=0)(Flaky(ValueError()))() == "answer"

    @pytest.mark.parametrize("on", [CircuitOpen, (ConnectionError, CircuitOpen)])
    def test_an_open_circuit_is_refused(self, on: Any) -> None:
        """An open circuit is not to be asked again."""
        with pytest.raises(ConfigurationError, match="put @circuit_breaker outside @retry"):
            retry(on=on)


class TestRetryAfter:
    """What the error asks for."""

    def test_it_is_waited_for_plus_jitter(self, clock: VirtualClock) -> None:
        """All who were told the same do not return in the same instant."""
        error = ConnectionError()
        error.response = SimpleNamespace(headers={"Retry-After": "7"}, status_code=None)  # type: ignore[attr-defined]
        assert retry(clock=clock, sleep=clock.advance, random=Dice(0.5))(Flaky(error))() == "answer"
        assert clock.monotonic() == 7.5

    def test_a_longer_stay_than_max_delay_ends_it(self, clock: VirtualClock) -> None:
        """Coming back sooner than asked would fail for certain."""
        error = ConnectionError()
        error.retry_after = 3600  # type: ignore[attr-defined]
        flaky = Flaky(error)
        with pytest.raises(ConnectionError) as raised:
            retry(clock=clock, sleep=clock.advance)(flaky)()
        assert flaky.calls == 1
        assert "asked to wait 3.6e+03 s, more than max_delay=30" in raised.value.__notes__[0]


@colors
def test_max_time_bounds_the_whole(color: str, clock: VirtualClock) -> None:
    """No attempt starts later than max_time after the first; the attempts themselves count too."""
    flaky = Flaky(*[ConnectionError() for _ in range(9)])

    def slow() -> str:
        clock.advance(2.0)
        return flaky()

    async def slow_async() -> str:
        return slow()

    decorate = retry(max_attempts=9, base_delay=1.0, max_time=8.0, clock=clock, sleep=clock.advance, random=Dice())
    with pytest.raises(ConnectionError) as raised:
        decorate(slow)() if color == "sync" else asyncio.run(decorate(slow_async)())
    # 2 s, wait 1, 2 s, wait 2, 2 s (9 s gone): a fourth could not start before 8 s.
    assert flaky.calls == 3
    assert "max_time=8 would pass" in raised.value.__notes__[0]


async def test_concurrent_calls_count_for_themselves(clock: VirtualClock) -> None:
    """Attempts of one call are not added to those of another (tenacity 78, 93, 613)."""
    calls: dict[int, int] = {}

    @retry(max_attempts=3, base_delay=0)
    async def call(number: int) -> int:
        calls[number] = calls.get(number, 0) + 1
        await asyncio.sleep(0)
        if calls[number] < 3:
            raise ConnectionError
        return number

    assert await asyncio.gather(*(call(number) for number in range(50))) == list(range(50))
    assert set(calls.values()) == {3}


def test_every_retry_is_told(clock: VirtualClock) -> None:
    """Subscribers see each scheduled attempt and the end."""
    seen: list[signals.Signal] = []
    unsubscribe = signals.subscribe(signals.Signal, seen.append)
    errors = [ConnectionError(), ConnectionError()]
    try:
        with pytest.raises(ConnectionError):
            retry(max_attempts=2, sleep=clock.advance, random=Dice(), name="api")(Flaky(*errors))()
    finally:
        unsubscribe()
    assert seen == [
        RetryScheduled(name="api", attempt=1, delay=1.0, error=errors[0]),
        RetriesExhausted(name="api", attempts=2, error=errors[1]),
    ]


def test_without_a_sleep_it_really_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults are time.sleep and asyncio.sleep."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    retry(random=Dice(0.25))(Flaky(ConnectionError()))()
    assert slept == [0.25]


def test_the_dice_differ_after_a_fork() -> None:
    """The default dice are those of the module, which are reseeded in each forked worker."""
    from holdfast.resilience._order import applied_to

    (applied,) = applied_to(retry()(Flaky()))
    assert applied.policy.random.__self__ is random.random.__self__  # type: ignore[attr-defined]


def test_a_generator_is_refused() -> None:
    """A generator function would return before it fails."""

    def pages() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="@retry cannot guard the generator"):
        retry()(pages)


def test_it_keeps_name_signature_and_colour() -> None:
    """The decorated function looks like the original."""

    @retry()
    async def fetch(url: str, *, verify: bool = True) -> str:
        return f"{url} {verify}"

    assert fetch.__name__ == "fetch"
    assert str(inspect.signature(fetch)) == "(url: str, *, verify: bool = True) -> str"
    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(fetch("u", verify=False)) == "u False"


def test_threads_retry_independently() -> None:
    """A decorated function holds no state between calls."""
    failed = threading.local()

    @retry(base_delay=0)
    def call() -> str:
        if not getattr(failed, "once", False):
            failed.once = True
            raise ConnectionError
        return "answer"

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(call())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["answer"] * 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_attempts": 0}, "max_attempts=0 is not legal: give a whole number of at least 1"),
        ({"base_delay": -1}, "base_delay=-1 is not legal: give a number from 0 to 86400"),
        ({"base_delay": float("nan")}, "base_delay=nan"),
        ({"base_delay": 60}, "max_delay=30.0 is not legal: give a number from 60 to 86400"),
        ({"max_delay": 1e9}, "max_delay=1000000000.0"),
        ({"max_time": 0}, "max_time=0 is not legal"),
        ({"on": KeyboardInterrupt}, "on=<class 'KeyboardInterrupt'> is not legal: give subclasses of Exception"),
        ({"on": []}, "on=.* at least one type"),
        ({"on": 503}, "on=503"),
        ({"name": "a\nb"}, "name="),
    ],
)
def test_wrong_arguments_fail_where_they_are_written(arguments: dict[str, Any], message: str) -> None:
    """Each names the parameter, the value and what is legal."""
    with pytest.raises(ConfigurationError, match=message):
        retry(**arguments)


def test_an_async_sleep_for_a_sync_function_is_refused() -> None:
    """It would never be awaited, so nothing would be waited."""
    decorate: Callable[..., Any] = retry(sleep=asyncio.sleep)
    with pytest.raises(ConfigurationError, match="give a blocking function"):
        decorate(Flaky())
