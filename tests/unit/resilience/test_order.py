"""Decorators in the wrong order are refused when they are applied, with the right order in the message."""

from collections.abc import Callable
from functools import partial, update_wrapper, wraps
from itertools import combinations
from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.resilience import CircuitBreaker, bulkhead, circuit_breaker, retry, timeout
from holdfast.resilience._order import MARK, ORDER, applied_to

DECORATORS: dict[str, Callable[[Any], Any]] = {
    "circuit_breaker": circuit_breaker(),
    "retry": retry(),
    "timeout": timeout(1.0),
    "bulkhead": bulkhead(),
}
RIGHT = [kind for kind in ORDER if kind in DECORATORS]


async def call() -> str:
    """Stand for the function that calls a dependency."""
    return "answer"


def stack(*kinds: str) -> Any:
    """Return `call` with decorators, the outermost named first."""
    function: Any = call
    for kind in reversed(kinds):
        function = DECORATORS[kind](function)
    return function


async def test_the_right_order_is_accepted_and_remembered() -> None:
    """All policies in the right order work, and the mark lists them outermost first."""
    function = stack(*RIGHT)
    assert await function() == "answer"
    assert [applied.kind for applied in applied_to(function)] == RIGHT
    assert isinstance(getattr(function, MARK)[0].policy, CircuitBreaker)


@pytest.mark.parametrize(("outer", "inner"), list(combinations(RIGHT, 2)))
def test_every_swapped_pair_is_refused(outer: str, inner: str) -> None:
    """Whichever two are swapped, the message names both, and shows how to write them."""
    stack(outer, inner)
    message = rf"test_order\.call has @{inner} outside @{outer}.*Write, from the top: @{outer}, @{inner}"
    with pytest.raises(ConfigurationError, match=message):
        stack(inner, outer)


def test_retry_outside_the_breaker_says_why() -> None:
    """The most common mistake is explained, and the whole order is shown."""
    with pytest.raises(ConfigurationError, match="every attempt would ask the open circuit again") as refused:
        stack("retry", "circuit_breaker", "timeout")
    assert "Write, from the top: @circuit_breaker, @retry, @timeout " in str(refused.value)
    assert "fallback > circuit_breaker > retry > hedge > timeout > bulkhead > rate_limit > call" in str(refused.value)


def test_the_mark_survives_other_decorators() -> None:
    """A well-behaved decorator of somebody else in between does not hide the order."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    with pytest.raises(ConfigurationError, match="@retry outside @circuit_breaker"):
        retry()(logged(stack("circuit_breaker")))


class Client:
    @circuit_breaker()
    async def __call__(self, number: int) -> int:
        return number

    @circuit_breaker()
    async def fetch(self, number: int) -> int:
        return number


class Partial(partial[Any]):
    """Not flattened when it is put into another one."""


@pytest.mark.parametrize(
    "guarded",
    [
        Client(),
        Client().fetch,
        partial(Client().fetch, 1),
        partial(Client(), 1),
        Partial(Partial(Client().fetch, 1)),
        update_wrapper(partial(Client().fetch, 1), Client.fetch),
    ],
)
def test_the_order_is_seen_through_partials_methods_and_callable_objects(guarded: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="@retry outside @circuit_breaker"):
        retry()(guarded)
    assert CircuitBreaker.of(guarded).name.startswith(f"{__name__}.Client.")


@pytest.mark.parametrize("bare", [partial(print, 1), print, 5, None, Client])
def test_what_has_no_policy_has_none(bare: Any) -> None:
    assert applied_to(bare) == ()


@pytest.mark.parametrize("kind", ["retry", "timeout"])
def test_what_multiplies_or_is_useless_twice_is_refused(kind: str) -> None:
    """Two retries on one function multiply their attempts."""
    with pytest.raises(ConfigurationError, match=f"has @{kind} twice"):
        stack(kind, kind)


@pytest.mark.parametrize("kind", ["circuit_breaker", "bulkhead"])
async def test_two_breakers_or_bulkheads_are_fine(kind: str) -> None:
    """One per host and one for all is a sensible pair."""
    assert await stack(kind, kind)() == "answer"
