"""A signal ends a run in order: once, and with everything cleaned up."""

from __future__ import annotations

import asyncio
import signal

import pytest

from holdfast.demo.ending import orderly_end

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_cancels_what_the_loop_runs(number: signal.Signals) -> None:
    """Every coroutine cleans up, also when more signals come meanwhile."""
    cleaned: list[str] = []

    async def beside() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
            cleaned.append("beside")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(beside())
            await asyncio.sleep(0.01)
            signal.raise_signal(number)
            await asyncio.sleep(60)

    with orderly_end() as ending:
        with pytest.raises(KeyboardInterrupt):
            ending.run(work())
        assert cleaned == ["beside"]
        assert ending.exit_code == 128 + number
        assert ending.name == number.name


def test_an_error_on_the_way_out_does_not_hide_the_signal() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("the connection is gone")

    async def ended() -> None:
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
        await work()

    with orderly_end() as ending, pytest.raises(KeyboardInterrupt):
        ending.run(ended())


def test_without_a_loop_it_raises_once() -> None:
    """What cleans up after the first is left alone by the second."""
    with orderly_end() as ending:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert ending.number == signal.SIGTERM


def test_it_comes_too_late_when_everything_is_being_cleaned_up() -> None:
    with orderly_end() as ending:
        ending.too_late()
        signal.raise_signal(signal.SIGINT)
        assert ending.number == 0


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end() as ending:
            signal.raise_signal(signal.SIGHUP)
            assert ending.number == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_errors_and_results_pass() -> None:
    async def fails() -> None:
        raise ValueError("a fault")

    async def works() -> int:
        return 7

    before = signal.getsignal(signal.SIGINT)
    with orderly_end() as ending:
        assert ending.run(works()) == 7
        with pytest.raises(ValueError, match="a fault"):
            ending.run(fails())
    assert signal.getsignal(signal.SIGINT) is before
