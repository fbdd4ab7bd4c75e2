"""A hop: run a short function in a worker thread while the event loop goes on.

The threads are shared by all SQLite backends of the process, and none of them ever waits for a lock:
a function that finds the file locked returns at once, and the task waits on the loop instead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

__all__ = ["hop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_MAX_THREADS = 8


def _new_workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MAX_THREADS, (os.cpu_count() or 1) + 2), thread_name_prefix="holdfast-sqlite")


_workers = _new_workers()


async def hop(function: Callable[[*Ts], T], *args: *Ts, stop: Callable[[], None] | None = None) -> T:
    """Run `function` in a worker thread and return its result.

    A cancelled task calls `stop`, which may ask the function to end early, and goes on only when the
    function has ended, or when it has not begun and never will: so whatever it used is free again. Its
    result, or its error, is dropped then.
    """
    work = _workers.submit(function, *args)
    outcome = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        if not work.cancel():
            if stop is not None:
                stop()
            await _until_done(outcome)
        raise


async def _until_done(outcome: asyncio.Future[T]) -> None:
    # Functions are short, and a second cancellation must not leave one running behind our back.
    while not outcome.done():
        try:
            await asyncio.wait([outcome])
        except asyncio.CancelledError:
            continue
    if not outcome.cancelled():
        outcome.exception()  # looked at, so that asyncio does not report it


def _after_fork() -> None:
    global _workers  # noqa: PLW0603 - the threads stayed with the parent
    _workers = _new_workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
