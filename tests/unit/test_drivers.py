"""Requests and steps, carried out by the two drivers."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from holdfast.drivers import AsyncDriver, SyncDriver
from holdfast.operations import Pattern, Request, Run, Sleep, Steps, operation


class Ask(Request[int]):
    """A request that the drivers below answer, or fail."""

    def __init__(self, number: int) -> None:
        self.number = number

    def carry(self, driver: Any) -> Any:
        return driver.ask(self.number)


class Blocking(SyncDriver):
    """Doubles numbers; fails at 13; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def ask(self, number: int) -> int:
        """Answer a request."""
        self.asked.append(number)
        if number == 13:
            raise ConnectionError("thirteen")
        return number * 2


class Awaited(AsyncDriver):
    """The same, after a turn of the loop; 99 takes for ever."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gate = asyncio.Event()

    async def ask(self, number: int) -> int:
        """Answer a request."""
        self.asked.append(number)
        if number == 13:
            raise ConnectionError("thirteen")
        if number >= 99:
            await self.gate.wait()
        await asyncio.sleep(0)
        return number * 2


class Doubler(Pattern[Any]):
    """One operation of each form."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.cleaned: list[str] = []

    @operation
    def once(self, number: int, *, extra: int = 0) -> Request[int]:
        """Ask once."""
        return Ask(number + extra)

    @operation
    def twice(self, number: int) -> Steps[int]:
        """Ask twice."""
        first = yield from Ask(number)
        return (yield from Ask(first))

    @operation
    def careful(self, number: int) -> Steps[int]:
        """Clean up with a request when something goes wrong."""
        try:
            return (yield from Ask(number))
        except BaseException as error:
            self.cleaned.append(type(error).__name__)
            yield from Ask(1)
            raise

    @operation
    def never(self) -> Steps[str]:
        """Need no request at all."""
        return "done"
        yield


def test_one_body_blocks_with_a_blocking_driver() -> None:
    """A request and a generator of requests both become plain methods."""
    doubler = Doubler(Blocking())
    assert doubler.once(3, extra=1) == 8
    assert doubler.twice(3) == 12
    assert doubler.never() == "done"


async def test_one_body_is_awaited_with_an_async_driver() -> None:
    """The same bodies return awaitables."""
    doubler = Doubler(Awaited())
    assert await doubler.once(3, extra=1) == 8
    assert await doubler.twice(3) == 12
    assert await doubler.never() == "done"


def test_an_operation_keeps_its_name_and_documentation() -> None:
    """Help and tracebacks show what was written."""
    assert Doubler.once.__name__ == "once"  # type: ignore[attr-defined]
    assert Doubler.twice.__doc__ == "Ask twice."
    assert Doubler.twice.__qualname__ == "Doubler.twice"  # type: ignore[attr-defined]


def test_an_error_is_thrown_into_the_steps() -> None:
    """The steps can clean up, with requests, before the error reaches the caller."""
    driver = Blocking()
    doubler = Doubler(driver)
    with pytest.raises(ConnectionError):
        doubler.careful(13)
    assert doubler.cleaned == ["ConnectionError"]
    assert driver.asked == [13, 1]


def test_an_interrupt_is_thrown_into_the_steps_too() -> None:
    """Ctrl-C must not leave a lock behind."""

    class Interrupted(Blocking):
        def ask(self, number: int) -> int:
            super().ask(number)
            if number == 5:
                raise KeyboardInterrupt
            return number

    driver = Interrupted()
    doubler = Doubler(driver)
    with pytest.raises(KeyboardInterrupt):
        doubler.careful(5)
    assert driver.asked == [5, 1]


async def test_a_cancelled_task_cleans_up() -> None:
    """Cancellation reaches the steps, and their cleaning requests are carried out."""
    driver = Awaited()
    doubler = Doubler(driver)
    task = asyncio.ensure_future(doubler.careful(99))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert doubler.cleaned == ["CancelledError"]
    assert driver.asked == [99, 1]


async def test_a_second_cancellation_does_not_stop_the_cleaning() -> None:
    """What cleans up after the first cancellation runs to its end."""

    class Slow(Awaited):
        cleaned = False

        async def ask(self, number: int) -> int:
            if number == 1:
                await asyncio.sleep(0.05)
                self.cleaned = True
            return await super().ask(number)

    driver = Slow()
    task = asyncio.ensure_future(Doubler(driver).careful(99))
    for _ in range(3):
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver.cleaned


def test_no_generator_is_left_running() -> None:
    """An abandoned generator would complain about an ignored GeneratorExit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConnectionError):
            Doubler(Blocking()).careful(13)
        gc.collect()


def test_run_calls_the_users_function() -> None:
    """Arguments are handed through; with `join` the driver comes first."""
    driver = Blocking()

    def steps() -> Steps[tuple[int, Any]]:
        plain = yield from Run(lambda a, b: a + b, 1, 2)
        joined = yield from Run(lambda tx, a: (tx, a), 3, join=True)
        return plain, joined

    assert driver.run(steps()) == (3, (driver, 3))


async def test_run_awaits_what_the_users_function_returns() -> None:
    """Coroutines, futures and plain values are all accepted."""

    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value

    def steps() -> Steps[list[int]]:
        return [(yield from Run(later, 1)), (yield from Run(lambda: 2))]

    assert await Awaited().run(steps()) == [1, 2]


async def test_sleeping_for_no_time_does_not_wait() -> None:
    """0 and negative durations return at once."""
    SyncDriver().sleep(0)
    SyncDriver().sleep(-1)
    await AsyncDriver().sleep(0)
    assert repr(Sleep(0.5)) == "Sleep(0.5)"
