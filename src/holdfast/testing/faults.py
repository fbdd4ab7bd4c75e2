"""What can go wrong in the simulator, how often, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields

from holdfast import checks

__all__ = ["CALM", "ROUGH", "Faults"]


LONGEST = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities per request (0 to 1) and durations (seconds, 0 to a day).

    Attributes:
        slow: the request or its answer travels for up to `slow_seconds` instead of a millisecond.
        unavailable: the store is not reached, and the caller is told so (`BackendUnavailable`).
        lost_request: the request never arrives; the caller gives up at its deadline (`OutcomeUnknown`).
        lost_reply: the request is applied but the answer never arrives (`OutcomeUnknown`).
        duplicate: the request arrives, and is applied, twice.
        pause: the process stands still for up to `pause_seconds` just before it sees the answer.
        crash: the process dies at this step; what it has sent still arrives.
        cancel: the caller is cancelled while it waits.

    Raises:
        ConfigurationError: one of them is out of its range.
    """

    slow: float = 0.0
    slow_seconds: float = 3.0
    unavailable: float = 0.0
    lost_request: float = 0.0
    lost_reply: float = 0.0
    duplicate: float = 0.0
    pause: float = 0.0
    pause_seconds: float = 6.0
    crash: float = 0.0
    cancel: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            most = LONGEST if field.name.endswith("_seconds") else 1
            checks.between(field.name, getattr(self, field.name), 0, most)


CALM = Faults()
"""Nothing goes wrong; requests take a millisecond or two."""

ROUGH = Faults(
    slow=0.05,
    unavailable=0.02,
    lost_request=0.02,
    lost_reply=0.02,
    duplicate=0.03,
    pause=0.04,
    crash=0.01,
    cancel=0.02,
)
"""Everything goes wrong, often enough that most runs of a few dozen requests see several faults."""
