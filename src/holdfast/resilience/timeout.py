"""A time limit for an async call. Sync functions are refused: nothing can stop a running thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from holdfast import checks, signals
from holdfast.errors import ConfigurationError, TimedOut
from holdfast.resilience._functions import full_name, is_async, with_parentheses
from holdfast.resilience._order import check_order, mark

__all__ = ["CallTimedOut", "timeout"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimedOut(signals.Signal):
    """A call was cancelled because it took longer than `timeout` seconds."""

    name: str
    timeout: float


@with_parentheses
def timeout(seconds: float, *, name: str | None = None) -> Callable[[F], F]:
    """Cancel an async function that takes longer than `seconds` and raise `TimedOut`.

    Guarantees: the function receives `CancelledError` at the await it is in, so its `finally` blocks run;
    a `TimeoutError` of its own passes through unchanged; a cancellation from outside stays one.

    Not guaranteed: an upper bound for code that blocks the event loop or swallows cancellation, and that
    a call that timed out had no effect.

    Args:
        seconds: > 0, measured by the event loop's monotonic clock.
        name: for errors and signals; the function's full name unless given.

    Raises:
        ConfigurationError: `seconds` outside its range; a sync function (pass the client's own timeout
            instead); a generator function; a policy inside that must be outside.
        TimedOut: (from the decorated function) also a `TimeoutError`, so `@retry` tries again.
    """
    seconds = checks.positive("seconds", seconds)
    given_name = None if name is None else checks.key("name", name)

    def decorate(function: F) -> F:
        own_name = full_name(function)
        if not is_async("timeout", function):
            raise ConfigurationError(
                f"@timeout cannot guard the sync function {own_name}: a running thread cannot be stopped, it "
                "would go on unseen. Give the client its own limit instead, such as "
                "httpx.get(url, timeout=2.0) or redis.Redis(socket_timeout=2.0), or make the function async"
            )
        check_order("timeout", function, name=own_name)
        wrapper: Any = _limited(function, seconds, given_name or own_name)
        mark(wrapper, "timeout", seconds, function)
        return wrapper  # type: ignore[no-any-return]

    return decorate


def _limited(function: Callable[P, Awaitable[T]], seconds: float, name: str) -> Callable[P, Awaitable[T]]:
    @wraps(function)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        its_own: TimeoutError | None = None
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await function(*args, **kwargs)
                except TimeoutError as error:
                    its_own = error
                    raise
        except TimeoutError as error:
            if error is its_own:
                raise
            if signals.subscribers:
                signals.emit(CallTimedOut(name=name, timeout=seconds))
            message = f"{name} took longer than {seconds:g} s"
            raise TimedOut(message, name=name, timeout=seconds) from error
        finally:
            del its_own  # the error holds its traceback, and that this frame: it would wait for the collector

    return limited
