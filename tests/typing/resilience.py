"""What type checkers must infer for guarded functions on the user's side. Never run; see `colours.py`.

Each policy hands back the function it was given, with its arguments, result and colour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, assert_type

from holdfast import bulkhead, circuit_breaker, retry, timeout
from holdfast.resilience import Bulkhead, CircuitBreaker

payments = CircuitBreaker("payments")
slots = Bulkhead("payments", max_concurrent=5)


@circuit_breaker(failure_threshold=5, recovery_timeout=30)
@retry(max_attempts=3, base_delay=1.0)
@bulkhead(max_concurrent=5)
def rate(pair: str, *, digits: int = 4) -> float:
    """A guarded function."""
    return round(len(pair), digits)


@circuit_breaker()
@retry(on=KeyError)
@timeout(2.0)
@bulkhead()
async def rate_async(pair: str, *, digits: int = 4) -> float:
    """A guarded coroutine function."""
    return round(len(pair), digits)


@payments
@slots
def shared(amount: int) -> str:
    """A function guarded by policies that others share."""
    return str(amount)


class Client:
    """Methods are guarded, too."""

    @retry()
    def fetch(self, name: str) -> bytes:
        """A guarded method."""
        return name.encode()


def blocking() -> None:
    """A guarded function is called as before."""
    assert_type(rate("EUR/USD", digits=2), float)
    assert_type(shared(5), str)
    assert_type(Client().fetch("a"), bytes)
    assert_type(payments.call(shared, 5), str)
    with payments as entered:
        assert_type(entered, CircuitBreaker)


async def awaited() -> None:
    """A guarded coroutine function is awaited as before."""
    # Not assert_type: mypy calls it a Coroutine, pyright the narrower CoroutineType.
    pending: Coroutine[Any, Any, float] = rate_async("EUR/USD", digits=2)
    assert_type(await pending, float)
    called = payments.call(rate_async, "EUR/USD", digits=2)
    _ = assert_type(called, Awaitable[float])
    assert_type(await called, float)
