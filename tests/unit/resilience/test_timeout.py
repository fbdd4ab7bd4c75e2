"""A time limit on async calls, on virtual time."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import signals
from holdfast.errors import ConfigurationError, TimedOut
from holdfast.resilience import CallTimedOut, retry, timeout
from tests.unit.resilience.virtual_time import run


@timeout(2.0, name="dependency")
async def call(seconds: float) -> float:
    """Answer after some time."""
    await asyncio.sleep(seconds)
    return seconds


def test_a_quick_call_passes_through() -> None:
    """Within the limit nothing changes."""
    assert run(call(1.9)) == 1.9


def test_a_slow_call_is_cancelled_and_raises_timed_out() -> None:
    """The error names the call and the limit, is a TimeoutError, and is told to subscribers."""
    seen: list[CallTimedOut] = []
    unsubscribe = signals.subscribe(CallTimedOut, seen.append)
    try:
        with pytest.raises(TimedOut, match="dependency took longer than 2 s") as raised:
            run(call(2.1))
    finally:
        unsubscribe()
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.facts == {"name": "dependency", "timeout": 2.0}
    assert seen == [CallTimedOut(name="dependency", timeout=2.0)]
    assert pickle.loads(pickle.dumps(raised.value)).facts == raised.value.facts


def test_the_cancelled_function_cleans_up() -> None:
    """Its finally blocks run before the caller sees TimedOut."""
    steps: list[str] = []

    @timeout(1.0)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned")

    with pytest.raises(TimedOut):
        run(hang())
    assert steps == ["cleaned"]


@pytest.mark.parametrize("late", [False, True])
def test_a_timeout_of_the_function_itself_passes_unchanged(late: bool) -> None:  # noqa: FBT001
    """A TimeoutError from inside is not ours, also when it comes while we are cancelling."""
    own = TimeoutError("socket")

    @timeout(1.0)
    async def fail() -> None:
        try:
            await asyncio.sleep(2.0 if late else 0.5)
        except asyncio.CancelledError:
            raise own from None
        raise own

    with pytest.raises(TimeoutError) as raised:
        run(fail())
    assert raised.value is own


def test_a_cancellation_from_outside_stays_one() -> None:
    """It is not turned into TimedOut."""

    async def main() -> None:
        task = asyncio.create_task(call(1.5))
        await asyncio.sleep(1.0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run(main())


def test_inside_retry_each_attempt_has_the_full_time() -> None:
    """TimedOut is retried by default, and the limit starts anew."""
    attempts: list[float] = []

    @retry(base_delay=0)
    @timeout(1.0)
    async def slow() -> None:
        attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(5.0)

    with pytest.raises(TimedOut):
        run(slow())
    assert attempts == pytest.approx([0.0, 1.0, 2.0])


def test_sync_functions_are_refused_with_the_better_way() -> None:
    """A running thread cannot be stopped."""
    decorate: Callable[[Any], Any] = timeout(1.0)
    with pytest.raises(ConfigurationError, match=r"a running thread cannot be stopped.*httpx\.get\(url, timeout"):
        decorate(len)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "2", True])
def test_wrong_seconds_are_refused(seconds: Any) -> None:
    """The message names the parameter, the value and the range."""
    with pytest.raises(ConfigurationError, match=r"seconds=.* is not legal: give a finite number greater than 0"):
        timeout(seconds)
