"""The deciding half of retry: after each failure, wait this long or give up.

`RetryPolicy` holds the settings; `Attempts` is the state of one call and is never shared between calls, so
concurrent calls cannot mix up their counts. Nothing here sleeps or calls the user's function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast import signals
from holdfast.errors import CircuitOpen, OutcomeUnknown
from holdfast.resilience._matching import ExceptionTest, FutureCancelledError
from holdfast.resilience.backoff import longest_backoff
from holdfast.resilience.retry_after import requested_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock

__all__ = ["Attempts", "RetriesExhausted", "RetryPolicy", "RetryScheduled"]

# Cancellation in all its other forms is no `Exception` and does not get this far.
NEVER_RETRIED = (CircuitOpen, FutureCancelledError)
_NOT_RETRIED = "this error is not retried"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(signals.Signal):
    """An attempt failed and another follows after `delay` seconds."""

    name: str
    attempt: int
    delay: float
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesExhausted(signals.Signal):
    """The last of two or more attempts failed, and its error goes to the caller."""

    name: str
    attempts: int
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The settings of one `@retry`, already checked."""

    name: str
    max_attempts: int
    base_delay: float
    max_delay: float
    max_time: float | None
    on: ExceptionTest
    idempotent: bool
    clock: Clock
    random: Callable[[], float]

    def start(self) -> Attempts:
        """Begin one call."""
        return Attempts(self)

    def retries(self, error: Exception) -> bool:
        """Return whether `error` is one to try again after, were there attempts left."""
        if isinstance(error, NEVER_RETRIED):
            return False
        if isinstance(error, OutcomeUnknown):
            return self.idempotent
        return self.on(error)


class Attempts:
    """The state of one call: how many attempts were made, and what was waited between them."""

    __slots__ = ("_deadline", "_policy", "made", "waits")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.made: int = 0
        self.waits: list[float] = []
        bound = policy.max_time
        self._deadline = None if bound is None else policy.clock.monotonic() + bound

    def failed(self, error: Exception) -> float | None:
        """Decide after a failed attempt: the seconds to wait before the next one, or None to give up."""
        self.made += 1
        policy = self._policy
        reason = _NOT_RETRIED
        if policy.retries(error):
            delay, reason = self._next_delay(error)
            if delay is not None:
                self.waits.append(delay)
                if signals.subscribers:
                    signals.emit(RetryScheduled(name=policy.name, attempt=self.made, delay=delay, error=error))
                return delay
        self._give_up(error, reason)
        return None

    def _next_delay(self, error: Exception) -> tuple[float | None, str]:
        policy = self._policy
        if self.made >= policy.max_attempts:
            return None, f"max_attempts={policy.max_attempts} reached"
        longest = longest_backoff(self.made, base_delay=policy.base_delay, max_delay=policy.max_delay)
        delay = policy.random() * longest if longest else 0.0
        asked = requested_wait(error, policy.clock)
        if asked is not None:
            if asked > policy.max_delay:
                # Coming back sooner than asked would fail for certain, so waiting less makes no sense.
                return None, f"asked to wait {asked:.3g} s, more than max_delay={policy.max_delay:g}"
            # On top of what was asked: all who were told the same would return in the same instant.
            delay += asked
        if self._deadline is not None and policy.clock.monotonic() + delay > self._deadline:
            return None, f"max_time={policy.max_time:g} would pass"
        return delay, ""

    def _give_up(self, error: Exception, reason: str) -> None:
        if self.made == 1 and reason == _NOT_RETRIED:
            return  # nothing happened that the caller could not see
        waited = f", after waits of {', '.join(f'{wait:.3g} s' for wait in self.waits)}" if self.waits else ""
        plural = "" if self.made == 1 else "s"
        _leave_note(error, f"holdfast retry of {self._policy.name}: ", f"{self.made} attempt{plural}{waited}; {reason}")
        if self.made > 1 and signals.subscribers:
            signals.emit(RetriesExhausted(name=self._policy.name, attempts=self.made, error=error))


def _leave_note(error: Exception, prefix: str, text: str) -> None:
    """Add a note to `error` in place of an earlier one with the same prefix.

    Some clients keep one exception and raise it again and again; it would collect a note per call.
    """
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes[:] = [note for note in notes if not (isinstance(note, str) and note.startswith(prefix))]
    error.add_note(prefix + text)
