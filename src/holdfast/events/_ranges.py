"""The numbers that every store can hold: whole ones of 64 bits, and durations that can be added to a date."""

from __future__ import annotations

from holdfast import checks
from holdfast.errors import ConfigurationError

__all__ = ["MOST", "seconds", "whole"]

MOST = 2**63 - 1
CENTURY = 100 * 365.25 * 86_400.0


def whole(parameter: str, value: int, minimum: int) -> int:
    """Return `value` if it is a whole number from `minimum` to 2^63 - 1."""
    number = checks.at_least(parameter, value, minimum)
    if number > MOST:
        legal = f"a whole number from {minimum} to {MOST}"
        raise ConfigurationError(f"{parameter}={checks.shown(value)} is not legal: give {legal}", parameter=parameter)
    return number


def seconds(parameter: str, value: float) -> float:
    """Return `value` if it is more than 0 s and at most a century."""
    duration = checks.positive(parameter, value)
    if duration > CENTURY:
        legal = f"more than 0 and at most {CENTURY:.0f} seconds, a century"
        raise ConfigurationError(f"{parameter}={checks.shown(value)} is not legal: give {legal}", parameter=parameter)
    return duration
