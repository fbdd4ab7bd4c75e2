"""`limiter.limited(key)`: the spelling that raises, for where no decision can be handed back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from holdfast.errors import ConfigurationError, RateLimited
from holdfast.operations import Async, C, Sync

if TYPE_CHECKING:
    from holdfast.ratelimit.decision import Decision
    from holdfast.ratelimit.token_bucket import TokenBucketLimiter

__all__ = ["Limited"]

F = TypeVar("F", bound=Callable[..., Any])


class Limited(Generic[C]):
    """A block, or a decorator, that asks the limiter first and raises `RateLimited` when it is refused.

    with limiter.limited("export") as decision:        # async with, for an asyncio client
        export()


    @limiter.limited("export")                         # async def, for an asyncio client
    def export(): ...

    It may be entered any number of times; each entry is an ask of its own.
    """

    __slots__ = ("_cost", "_key", "_limiter")

    def __init__(self, limiter: TokenBucketLimiter[C], key: str, cost: float) -> None:
        """Made by `TokenBucketLimiter.limited`, which has checked the arguments."""
        self._limiter: Any = limiter
        self._key = key
        self._cost = cost

    def __enter__(self: Limited[Sync]) -> Decision:
        if self._limiter.is_async:
            raise ConfigurationError("this limiter has an asyncio client: write `async with limiter.limited(...)`")
        return self._judge(self._limiter.acquire(self._key, cost=self._cost))

    def __exit__(self: Limited[Sync], *exception: object) -> None:
        """Do nothing: tokens are spent, not held."""

    async def __aenter__(self: Limited[Async]) -> Decision:
        if not self._limiter.is_async:
            raise ConfigurationError("this limiter has a blocking client: write `with limiter.limited(...)`")
        return self._judge(await self._limiter.acquire(self._key, cost=self._cost))

    async def __aexit__(self: Limited[Async], *exception: object) -> None:
        """Do nothing: tokens are spent, not held."""

    def __call__(self, function: F) -> F:
        """Decorate `function`: `async def` for an asyncio client, `def` for a blocking one."""
        block: Any = self
        is_async = inspect.iscoroutinefunction(function)
        if is_async is not self._limiter.is_async:
            here, wanted = ("an asyncio", "async def") if self._limiter.is_async else ("a blocking", "def")
            raise ConfigurationError(f"this limiter has {here} client: it decorates `{wanted}` functions")
        if is_async:

            @functools.wraps(function)
            async def limited_async(*args: Any, **kwargs: Any) -> Any:
                async with block:
                    return await function(*args, **kwargs)

            return cast("F", limited_async)

        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            with block:
                return function(*args, **kwargs)

        return cast("F", limited)

    def _judge(self, decision: Decision) -> Decision:
        if decision.allowed:
            return decision
        message = f"limit {self._limiter.name!r} is used up; try again in {decision.retry_after:.3g} s"
        raise RateLimited(
            message,
            retry_after=decision.retry_after,
            name=self._limiter.name,
            key=self._key,
            limit=decision.limit,
            remaining=decision.remaining,
            reset_after=decision.reset_after,
        )
