"""Where time comes from.

Nothing in holdfast reads a clock by itself: every backend and every pattern without a backend holds
one of these, so tests and the simulator can move time by hand (`holdfast.testing.VirtualClock`).

Two kinds of time, never mixed: `monotonic()` for measuring and for deadlines, `wall()` only for
values that people or other machines read (names of such values end in `_at`).
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """A source of time."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970-01-01 UTC; may jump."""
        ...


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()
    # The C functions themselves: a Python method around them would cost a call more on every hot path.
    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)
    wall: staticmethod[[], float] = staticmethod(time.time)


SYSTEM_CLOCK = SystemClock()
