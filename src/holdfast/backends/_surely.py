"""Finish what must be finished, however often the task is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["surely"]

T = TypeVar("T")


async def surely(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` to its end, then raise a cancellation that came meanwhile.

    For rolling back and giving back only: it must be bounded in time, for nothing can stop it.
    """
    work = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # looked at, so that asyncio does not report it
        raise cancelled
    return work.result()
