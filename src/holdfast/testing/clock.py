"""Time that tests move by hand."""

from __future__ import annotations

from holdfast import checks

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock that stands still until it is moved.

    Hand it to a backend or to a pattern without one (`clock=`):

    >>> clock = VirtualClock()
    >>> clock.advance(30.0)
    >>> clock.monotonic()
    30.0

    Args:
        start: what `monotonic()` begins with, seconds.
        started_at: what `wall()` begins with, seconds since 1970-01-01 UTC.
    """

    def __init__(self, *, start: float = 0.0, started_at: float = 1_700_000_000.0) -> None:
        self._now = start
        self._wall_offset = started_at - start

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self._now + self._wall_offset

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds` > 0."""
        self._now += checks.positive("seconds", seconds)

    def advance_to(self, moment: float) -> None:
        """Move to the monotonic `moment`; one that has passed changes nothing."""
        self._now = max(self._now, moment)

    def jump_wall(self, seconds: float) -> None:
        """Let the wall clock jump, forward or back, as real ones do; monotonic time is not touched."""
        self._wall_offset += seconds
