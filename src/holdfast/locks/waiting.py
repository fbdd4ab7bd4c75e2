"""How somebody waits for a lock that another holds: told by the store, or looking again and again.

Both wait for a while and return; then the caller asks the store, whose answer is all that counts.
"""

from __future__ import annotations

import random
from typing import Any

from holdfast.operations import Request, Sleep

__all__ = ["Notified", "Polling"]

FIRST_POLL = 0.005
LONGEST_POLL = 0.25
# Who is told looks by himself all the same, because a notice can be lost with its connection.
BACKSTOP = 1.0


class Polling:
    """Look after a pause that grows: a random 2.5 to 250 ms."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._poll = FIRST_POLL

    def next(self, most: float) -> Request[None]:
        """Wait, for `most` seconds at most."""
        pause = self._poll * self._dice.uniform(0.5, 1.0)
        self._poll = min(self._poll * 2, LONGEST_POLL)
        return Sleep(min(most, pause))

    def close(self) -> None:
        """Wait no more."""


class Notified:
    """Look when the store says so, and after a second or two."""

    def __init__(self, watch: Any, dice: random.Random) -> None:
        self._watch = watch
        self._dice = dice

    def next(self, most: float) -> Request[None]:
        """Wait, for `most` seconds at most."""
        request: Request[None] = self._watch.next(min(most, BACKSTOP * self._dice.uniform(1.0, 2.0)))
        return request

    def close(self) -> None:
        """Leave the line."""
        self._watch.close()
