"""What a policy takes a function for, and what it says when that was wrong."""

from __future__ import annotations

import asyncio
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from holdfast.errors import ConfigurationError
from holdfast.resilience import CircuitBreaker, bulkhead, circuit_breaker, retry, timeout

if TYPE_CHECKING:
    from collections.abc import Callable


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as many are written: its wrapper is a plain `def` whatever it wraps."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that makes an async function a sync one."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


async def answer(value: int = 1) -> int:
    return value


@pytest.mark.parametrize("decorator", [retry, circuit_breaker, bulkhead, timeout])
def test_forgotten_parentheses_are_named(decorator: Callable[..., Any]) -> None:
    name = decorator.__name__
    with pytest.raises(ConfigurationError, match=rf"@{name} got .*\.answer: write the parentheses, @{name}\(\.\.\.\)"):
        decorator(answer)


def test_other_arguments_in_the_wrong_place_are_pythons_business() -> None:
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        retry(3)  # type: ignore[call-arg]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("decorator", [retry, circuit_breaker, bulkhead])
def test_a_coroutine_from_a_plain_def_is_refused_with_the_cure(decorator: Callable[..., Any]) -> None:
    """The policy would end before the coroutine runs, and do nothing without a word."""
    hidden = decorator()(logged(answer))
    with pytest.raises(ConfigurationError, match="below the decorator") as caught:
        hidden()
    assert f"@{decorator.__name__} took {__name__}.answer for a sync function" in str(caught.value)


@pytest.mark.parametrize("decorator", [retry, circuit_breaker, bulkhead])
def test_a_wrapper_that_runs_the_coroutine_is_sync(decorator: Callable[..., Any]) -> None:
    assert decorator()(blocking(answer))(5) == 5


@pytest.mark.parametrize("decorator", [retry, circuit_breaker, bulkhead])
async def test_what_looks_async_is_awaited(decorator: Callable[..., Any]) -> None:
    assert await decorator()(partial(answer, 5))() == 5
    assert await decorator()(AsyncMock(return_value=5))() == 5


def test_the_mistake_is_neither_retried_nor_hidden_by_an_open_circuit() -> None:
    @circuit_breaker(failure_threshold=1)
    @retry(on=ValueError, base_delay=0)
    @logged
    async def call() -> None: ...

    for _ in range(3):
        with pytest.raises(ConfigurationError, match="@retry took"):
            call()
    assert CircuitBreaker.of(call).state == "closed"


def test_a_probe_that_turns_out_a_mistake_gives_its_place_back() -> None:
    breaker = CircuitBreaker("a", failure_threshold=1, recovery_timeout=0.000_001)
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    mistaken = breaker(logged(answer))
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            mistaken()
    with breaker:
        pass
    assert breaker.state == "closed"


def test_slots_come_back_after_the_mistake() -> None:
    hidden = bulkhead(max_concurrent=1)(logged(answer))
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            hidden()
