"""Who carries out what `holdfast.operations` decides: one driver that blocks, one that is awaited.

A backend subclasses one of them and adds the methods for its own requests. The simulator's driver is in
`holdfast.testing.simulator`.

Cancellation is the one subtle rule. Whatever goes wrong while a request is carried out, also
`CancelledError` and `KeyboardInterrupt`, is thrown *into* the generator, which may yield more
requests to clean up (a cancelled `acquire` releases what it may have been granted). Those are carried
out to their end, also when the task is cancelled a second time meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from holdfast import background
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.operations import Driver, Request, Steps

__all__ = ["AsyncDriver", "SyncDriver"]

T = TypeVar("T")


class SyncDriver:
    """Carry out requests by blocking the calling thread. A backend adds the methods for its requests."""

    clock: Clock = SYSTEM_CLOCK
    random: random.Random = random.SystemRandom()

    def run(self, steps: Steps[T]) -> T:
        """Carry out `steps`; whatever goes wrong is thrown into them first."""
        try:
            request = next(steps)
            while True:
                try:
                    reply = request.carry(self)
                except BaseException as error:  # noqa: BLE001 - the steps are told, and raise it again
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as stop:
            return cast("T", stop.value)

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`; 0 or less returns at once (`time.sleep(0)` costs 70 us)."""
        if seconds > 0:
            time.sleep(seconds)

    def run_function(self, function: Callable[..., T], *args: object) -> T:
        """Call `function`."""
        return function(*args)

    def background(self, steps: Steps[None]) -> Callable[[], None]:
        """Carry out `steps` in a thread; see `holdfast.background`."""
        return background.start_in_thread(cast("Driver", self), steps)


class AsyncDriver:
    """Carry out requests on the running event loop. A backend adds the methods for its requests."""

    clock: Clock = SYSTEM_CLOCK
    random: random.Random = random.SystemRandom()

    async def run(self, steps: Steps[T]) -> T:
        """Carry out `steps`; whatever goes wrong is thrown into them first.

        After a cancellation the remaining (cleaning) requests are carried out shielded, so that a
        second cancellation cannot leave a lock behind.
        """
        cancelled = False
        try:
            request = next(steps)
            while True:
                try:
                    reply = await (self._shielded(request) if cancelled else request.carry(self))
                except BaseException as error:  # noqa: BLE001 - the steps are told, and raise it again
                    cancelled = cancelled or isinstance(error, asyncio.CancelledError)
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as stop:
            return cast("T", stop.value)

    async def _shielded(self, request: Request[T]) -> T:
        cleaning = asyncio.ensure_future(request.carry(self))
        while not cleaning.done():
            # The cancellation that started this cleaning is still on its way; later ones add nothing.
            try:
                await asyncio.shield(cleaning)
            except asyncio.CancelledError:
                if cleaning.cancelled():
                    raise
            except Exception:  # noqa: BLE001, S110 - result() below raises it
                pass
        return cast("T", cleaning.result())

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` without blocking the loop; 0 or less returns at once."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def run_function(self, function: Callable[..., Awaitable[T] | T], *args: object) -> T:
        """Call `function`, and await its result if that is awaitable."""
        result = function(*args)
        if isinstance(result, Awaitable):
            return await result
        return result

    def background(self, steps: Steps[None]) -> Callable[[], None]:
        """Carry out `steps` on the running loop; see `holdfast.background`."""
        return background.start_in_loop(cast("Driver", self), steps)
