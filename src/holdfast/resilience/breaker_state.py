"""The circuit breaker's state machine: pure, takes `now`, knows no thread, task or clock.

Read this before `circuit_breaker.py`, which adds the lock, the clock and the decorators.

The idea that makes late results harmless: each stay in a state is a *generation*, an object of its
own. A call is stamped with the generation it was admitted in and reports back to it. When the machine
has moved on meanwhile, the stamp is no longer the current generation and the report changes nothing:

    time ->   call A starts          circuit opens        probe runs        A succeeds, much too late
    state     closed (gen. 1)        open (gen. 2)        half_open (3)     A reports to 1: ignored

Source: M. Nygard, "Release It!", 2nd ed., ch. 5 (states); resilience4j issue 903, circuitbreaker 2.1.3
and pyresilience 0.4.1 (late successes that close an open circuit, the fault that stamps prevent).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "BreakerEvent", "BreakerMachine", "BreakerState", "Generation", "diagram"]


class BreakerState(StrEnum):
    """What a circuit breaker does with a call."""

    CLOSED = "closed"  # lets it through
    OPEN = "open"  # refuses it
    HALF_OPEN = "half_open"  # lets a few through, to see


class BreakerEvent(StrEnum):
    """What moves a circuit breaker from one state to another."""

    FAILED_IN_A_ROW = "failure_threshold failures in a row"
    RECOVERY_ELAPSED = "first call after recovery_timeout"
    PROBES_SUCCEEDED = "half_open_probes successes"
    PROBE_FAILED = "a probe fails"
    PROBE_OVERDUE = "no answer for probe_timeout"


CLOSED, OPEN, HALF_OPEN = BreakerState

TRANSITIONS: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (CLOSED, BreakerEvent.FAILED_IN_A_ROW): OPEN,
    (OPEN, BreakerEvent.RECOVERY_ELAPSED): HALF_OPEN,
    (HALF_OPEN, BreakerEvent.PROBES_SUCCEEDED): CLOSED,
    (HALF_OPEN, BreakerEvent.PROBE_FAILED): OPEN,
    (HALF_OPEN, BreakerEvent.PROBE_OVERDUE): OPEN,
}


@dataclass(slots=True, eq=False)
class Generation:
    """One stay in one state, and the stamp of the calls admitted during it (compared by identity).

    Attributes:
        state: never changes; another state is another generation.
        failures: the run of failures that no success has ended yet. In half-open it is the run that
            opened the circuit, so `failures == 0` always means that a success has nothing to change.
        until: monotonic time at which an open circuit may be probed, or a half-open one stops waiting.
        permits: probes that may still be let through (half-open).
        successes: probes that succeeded (half-open).
    """

    state: BreakerState
    failures: int = 0
    until: float = math.inf
    permits: int = 0
    successes: int = 0


class BreakerMachine:
    """A breaker that opens after a run of failures. Not thread safe: its caller holds a lock.

    Each method makes at most one transition; compare `current` before and after to see it.

    Invariant, in each half-open generation: its probes under way + successes + permits are always
    `half_open_probes`, so never more than that many of its probes are out. A generation whose probes are
    overdue is given up with them: they may hang, or their callers may have died without a report, and who
    waited for those would wait for ever. So probes that hang add up, by `half_open_probes` in every
    `probe_timeout + recovery_timeout` seconds.
    """

    __slots__ = ("current", "failure_threshold", "half_open_probes", "probe_timeout", "recovery_timeout")

    def __init__(
        self, *, failure_threshold: int, recovery_timeout: float, half_open_probes: int, probe_timeout: float
    ) -> None:
        self.failure_threshold: int = failure_threshold
        self.recovery_timeout: float = recovery_timeout
        self.half_open_probes: int = half_open_probes
        self.probe_timeout: float = probe_timeout
        self.current: Generation = Generation(CLOSED)

    def admit(self, now: float) -> Generation | None:
        """Return the stamp for a call that may run, or None if it is refused."""
        self._let_time_pass(now)
        generation = self.current
        if generation.state is CLOSED:
            return generation
        if not generation.permits:
            return None
        generation.permits -= 1
        generation.until = now + self.probe_timeout
        return generation

    def succeeded(self, generation: Generation) -> None:
        """Report that a call stamped with `generation` succeeded."""
        if generation is not self.current:
            return
        if generation.state is CLOSED:
            generation.failures = 0
            return
        generation.successes += 1
        if generation.successes >= self.half_open_probes:
            self._move(BreakerEvent.PROBES_SUCCEEDED)

    def failed(self, generation: Generation, now: float) -> None:
        """Report that a call stamped with `generation` failed."""
        if generation is not self.current:
            return
        if generation.state is HALF_OPEN:
            self._move(BreakerEvent.PROBE_FAILED, until=now + self.recovery_timeout)
            return
        generation.failures += 1
        if generation.failures >= self.failure_threshold:
            self._move(BreakerEvent.FAILED_IN_A_ROW, until=now + self.recovery_timeout)

    def abandoned(self, generation: Generation) -> None:
        """Report that a call stamped with `generation` ended without telling anything: its permit returns."""
        if generation is self.current and generation.state is HALF_OPEN:
            generation.permits += 1

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until an open circuit may be probed; None in other states."""
        if self.current.state is not OPEN:
            return None
        return max(0.0, self.current.until - now)

    def _let_time_pass(self, now: float) -> None:
        generation = self.current
        if now < generation.until:
            return
        if generation.state is OPEN:
            self._move(BreakerEvent.RECOVERY_ELAPSED)
        elif generation.state is HALF_OPEN and not generation.permits:
            # Otherwise one probe that hangs for ever would keep the circuit shut for ever.
            self._move(BreakerEvent.PROBE_OVERDUE, until=now + self.recovery_timeout)

    def _move(self, event: BreakerEvent, *, until: float = math.inf) -> None:
        new = TRANSITIONS[self.current.state, event]
        if new is CLOSED:
            self.current = Generation(CLOSED)
        else:
            permits = self.half_open_probes if new is HALF_OPEN else 0
            self.current = Generation(new, failures=self.failure_threshold, until=until, permits=permits)


def diagram() -> str:
    """Return the transition table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    lines += [f"    {old} --> {new}: {event}" for (old, event), new in TRANSITIONS.items()]
    return "\n".join(lines)
