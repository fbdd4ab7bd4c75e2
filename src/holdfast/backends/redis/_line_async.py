"""First come, first served, for what has room for so many only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Line"]


class Line:
    """Those who wait for room. Whoever makes room calls `wake`."""

    __slots__ = ("_look_again", "_turns")

    def __init__(self, look_again: float) -> None:
        """Have the first look again every `look_again` seconds: some make room without telling us."""
        self._look_again = look_again
        self._turns: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    async def wait(self, deadline: float, free: Callable[[], object]) -> None:
        """Wait until we are first and there is room.

        Raises:
            TimeoutError: there was none until `deadline`, a moment on the loop's clock.
        """
        loop, turns = asyncio.get_running_loop(), self._turns
        turn = loop.create_future()
        turns.append(turn)
        try:
            while True:
                left = deadline - loop.time()
                if left <= 0:
                    raise TimeoutError("no room within the deadline")
                await asyncio.wait((turn,), timeout=min(left, self._look_again))
                if (turn.done() or turns[0] is turn) and free():
                    return
                if turn.done():  # somebody was quicker
                    turn = loop.create_future()
                    turns.appendleft(turn)
        finally:
            if not turn.done():
                turns.remove(turn)

    def wake(self) -> None:
        """Let the first look whether there is room."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
