"""What each resilience policy costs per call, beside a bare call of the same run.

Run it with `python -m bench resilience`. The row "passthrough" is a wrapper that does nothing, the price of any
decorator. `suppress` is not used here: it costs more than what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from bench.harness import Candidate, measure, measure_async, report
from holdfast.errors import CircuitOpen
from holdfast.resilience import bulkhead, circuit_breaker, retry, timeout

__all__ = ["main"]


def bare(value: int) -> int:
    """Do the least a function can do."""
    return value


async def bare_async(value: int) -> int:
    """Do the least a coroutine can do."""
    return value


def passthrough(function: Callable[[int], int]) -> Callable[[int], int]:
    """Wrap without a purpose."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return function(*args, **kwargs)

    return wrapper


def passthrough_async(function: Callable[[int], Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
    """Wrap a coroutine function without a purpose."""

    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> int:
        return await function(*args, **kwargs)

    return wrapper


def loop(function: Callable[[int], Any]) -> Callable[[int], None]:
    """Return a function that calls `function` so many times."""

    def work(calls: int) -> None:
        for number in range(calls):
            function(number)

    return work


def loop_async(function: Callable[[int], Awaitable[Any]]) -> Callable[[int], Awaitable[None]]:
    """Return a coroutine function that awaits `function` so many times."""

    async def work(calls: int) -> None:
        for number in range(calls):
            await function(number)

    return work


def every_other_fails(value: int) -> int:
    """Fail for even numbers."""
    if value % 2 == 0:
        raise ConnectionError
    return value


def fail_once_by_hand(value: int) -> int:
    """Try twice, without a policy: the floor of a retry that is needed."""
    try:
        return every_other_fails(value * 2)
    except ConnectionError:
        return every_other_fails(value * 2 + 1)


def fail_once() -> Callable[[int], int]:
    """Return a function that is retried exactly once per call."""
    calls = iter(range(10**12))

    @retry(base_delay=0)
    def work(_: int) -> int:
        return every_other_fails(next(calls))

    return work


def raise_and_catch(value: int) -> None:
    """Raise and catch: the floor of a refusal."""
    try:  # noqa: SIM105
        every_other_fails(value * 2)
    except ConnectionError:
        pass


def refused() -> Callable[[int], None]:
    """Return a function whose circuit is open."""
    guarded = circuit_breaker(failure_threshold=1, recovery_timeout=86_400)(every_other_fails)
    try:  # noqa: SIM105
        guarded(0)
    except ConnectionError:
        pass

    def work(value: int) -> None:
        try:  # noqa: SIM105
            guarded(value)
        except CircuitOpen:
            pass

    return work


def main() -> None:
    """Measure and print."""
    happy = [
        Candidate("bare call", loop(bare)),
        Candidate("passthrough", loop(passthrough(bare))),
        Candidate("retry", loop(retry()(bare))),
        Candidate("circuit_breaker", loop(circuit_breaker()(bare))),
        Candidate("bulkhead", loop(bulkhead()(bare))),
        Candidate("circuit_breaker + retry", loop(circuit_breaker()(retry()(bare)))),
    ]
    measure(happy, calls=20_000, rounds=15)
    report("Resilience, sync, nothing fails", happy)

    happy_async = [
        Candidate("bare call", loop_async(bare_async)),
        Candidate("passthrough", loop_async(passthrough_async(bare_async))),
        Candidate("retry", loop_async(retry()(bare_async))),
        Candidate("circuit_breaker", loop_async(circuit_breaker()(bare_async))),
        Candidate("bulkhead", loop_async(bulkhead()(bare_async))),
        Candidate("timeout", loop_async(timeout(60)(bare_async))),
        Candidate("circuit_breaker + retry", loop_async(circuit_breaker()(retry()(bare_async)))),
    ]
    asyncio.run(measure_async(happy_async, calls=20_000, rounds=15))
    report("Resilience, async, nothing fails", happy_async)

    failing = [Candidate("try, except, call again", loop(fail_once_by_hand)), Candidate("retry", loop(fail_once()))]
    measure(failing, calls=5_000, rounds=15)
    report("One failure, then success, no wait", failing)

    refusing = [Candidate("raise and catch", loop(raise_and_catch)), Candidate("open circuit", loop(refused()))]
    measure(refusing, calls=5_000, rounds=15)
    report("Refused by an open circuit", refusing)
