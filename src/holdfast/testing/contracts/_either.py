"""One test for both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.backends import AsyncBackend, Backend

__all__ = ["settle", "together"]


async def settle(result: Any) -> Any:
    """Return `result`, awaited if it is awaitable."""
    if isinstance(result, Awaitable):
        return await result
    return result


async def together(backend: Backend[Any], times: int, work: Callable[[int], Any]) -> list[Any]:
    """Call `work(0)` ... `work(times - 1)` at once: in tasks, or in threads for a blocking backend.

    An exception of one is returned in its place.
    """
    if isinstance(backend, AsyncBackend):
        calls = [work(number) for number in range(times)]
        return await asyncio.gather(*(settle(call) for call in calls), return_exceptions=True)
    threads = (asyncio.to_thread(work, number) for number in range(times))
    return await asyncio.gather(*threads, return_exceptions=True)
