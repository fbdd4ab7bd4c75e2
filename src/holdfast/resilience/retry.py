"""Retry: call again what failed for a moment, a bounded number of times, ever more patiently.

`attempts.py` decides what follows a failure, `transient.py` which failures count; here are the decorator
and its two wrappers, which call, wait and call again. Without a failure they do nothing else.
"""

from __future__ import annotations

import asyncio
import random as dice
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from holdfast import checks
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.errors import CircuitOpen, ConfigurationError
from holdfast.resilience._functions import full_name, is_async, refuse_coroutine, with_parentheses
from holdfast.resilience._matching import Exceptions, ExceptionTest, exception_types, matcher
from holdfast.resilience._order import check_order, mark
from holdfast.resilience.attempts import RetryPolicy
from holdfast.resilience.transient import is_transient

__all__ = ["retry"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")
Sleeper = Callable[[float], Any]

_LONGEST_DELAY = 86_400.0  # a day: whoever waits longer needs a queue, not a retry
_TOO_BROAD = (Exception, BaseException)


@with_parentheses
def retry(
    *,
    max_attempts: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 30.0,
    max_time: float | None = None,
    on: Exceptions = is_transient,
    idempotent: bool = False,
    name: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
    sleep: Callable[[float], Any] | None = None,
    random: dice.Random | None = None,
) -> Callable[[F], F]:
    """Call a function again when it fails with an error that another attempt may not meet.

    The wait before retry n is drawn from 0 to min(max_delay, base_delay * 2 ** (n - 1)) seconds (full
    jitter). An error that says how long to stay away (`retry_after`, Retry-After) is waited for first.

    Guarantees: at most `max_attempts` calls; cancellation, interrupts and `CircuitOpen` are never
    retried; the last exception passes through unchanged, with a note telling attempts and waits; no state
    is shared between calls; a wait of 0 does not sleep.

    Not guaranteed: that a failed attempt had no effect. A timeout or a broken connection does not tell, so
    retry only what may be done twice, or send an idempotency key.

    Args:
        max_attempts: calls in all, the first one included, >= 1.
        base_delay: longest wait before the first retry, 0 to 86,400 seconds; doubles with each retry.
        max_delay: where the doubling ends, base_delay to 86,400 seconds. An error that asks for a longer
            stay than this is not retried.
        max_time: give up when the next attempt would start later than this many seconds after the
            first, > 0. It interrupts no running attempt: `@timeout` does.
        on: the errors to retry: a type, several, or a function of the exception. The default is
            `is_transient`. `Exception` at large is refused, because a wrong password or a bug does not pass
            with time; `any_exception` says it on purpose.
        idempotent: True if the call may be done twice: then `OutcomeUnknown` is retried too.
        name: for signals and notes; the function's full name unless given.
        clock: where time comes from (for max_time and Retry-After dates).
        sleep: waits, in place of `time.sleep` or `asyncio.sleep`; its result is awaited if it can be. A test
            passes its virtual clock's.
        random: the dice; only `random()` is called.

    Raises:
        ConfigurationError: an argument outside its range; a generator function; a policy inside that must be
            outside, such as a circuit breaker.
    """
    policy = RetryPolicy(
        name="" if name is None else checks.key("name", name),
        max_attempts=checks.at_least("max_attempts", max_attempts, 1),
        base_delay=checks.between("base_delay", base_delay, 0.0, _LONGEST_DELAY),
        max_delay=checks.between("max_delay", max_delay, base_delay, _LONGEST_DELAY),
        max_time=checks.optional_positive("max_time", max_time),
        on=_retryable(on),
        idempotent=checks.flag("idempotent", idempotent),
        clock=clock,
        # The module's own dice are reseeded after a fork; equal dice in every worker would be no jitter.
        random=dice.random if random is None else random.random,
    )

    def decorate(function: F) -> F:
        must_await = is_async("retry", function)
        own_name = full_name(function)
        check_order("retry", function, name=own_name)
        own = policy if name is not None else replace(policy, name=own_name)
        if must_await:
            wrapper: Any = _retrying_async(function, own, sleep or asyncio.sleep)
        else:
            wrapper = _retrying(function, own, _blocking(sleep or time.sleep))
        mark(wrapper, "retry", own, function)
        return wrapper  # type: ignore[no-any-return]

    return decorate


def _retrying(function: Callable[P, T], policy: RetryPolicy, sleep: Sleeper) -> Callable[P, T]:
    timed = policy.max_time is not None

    @wraps(function)
    def retrying(*args: P.args, **kwargs: P.kwargs) -> T:
        attempts = policy.start() if timed else None
        while True:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                attempts = attempts or policy.start()
                delay = attempts.failed(error)
                if delay is None:
                    raise
            else:
                if type(result) is CoroutineType:
                    refuse_coroutine("retry", function, result)
                return result
            # Waiting happens outside the handler, so that the next error is not chained to this one.
            if delay > 0:  # time.sleep(0) costs 70 us
                sleep(delay)

    return retrying


def _retrying_async(
    function: Callable[P, Awaitable[T]], policy: RetryPolicy, sleep: Sleeper
) -> Callable[P, Awaitable[T]]:
    timed = policy.max_time is not None

    @wraps(function)
    async def retrying(*args: P.args, **kwargs: P.kwargs) -> T:
        attempts = policy.start() if timed else None
        while True:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if _is_being_cancelled():
                    raise
                attempts = attempts or policy.start()
                delay = attempts.failed(error)
                if delay is None:
                    raise
            if delay > 0:
                waiting = sleep(delay)
                if isawaitable(waiting):
                    await waiting

    return retrying


def _is_being_cancelled() -> bool:
    # Some clients turn a cancellation into an error of their own; the caller still wants to stop.
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _blocking(sleep: Sleeper) -> Sleeper:
    if iscoroutinefunction(sleep):
        raise ConfigurationError(
            f"sleep={sleep!r} is not legal: give a blocking function for a sync function", parameter="sleep"
        )
    return sleep


def _retryable(on: Exceptions) -> ExceptionTest:
    """Return the test for `on`, after refusing what makes a retry do harm."""
    given = on if isinstance(on, (tuple, list, set, frozenset)) else (on,)
    for each in given:
        if each in _TOO_BROAD:
            raise ConfigurationError(
                f"on={on!r} is not legal: it would repeat what cannot succeed (a refused login, a wrong "
                "argument, a bug). Name the errors that pass with time, or leave `on` out for the transient "
                "errors of known clients; on=any_exception retries everything on purpose",
                parameter="on",
            )
    for each in exception_types("on", on) or ():
        if issubclass(each, CircuitOpen):
            raise ConfigurationError(
                f"on={on!r} is not legal: an open circuit is not retried; put @circuit_breaker outside @retry",
                parameter="on",
            )
    return matcher("on", on)
