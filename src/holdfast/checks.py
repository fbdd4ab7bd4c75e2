"""Checks of arguments, with one wording for all of them.

Each returns the value it was given, so a constructor reads `self.ttl = positive("ttl", ttl)`.
"""

from __future__ import annotations

import math
import re

from holdfast.errors import ConfigurationError, InvalidKey

__all__ = ["at_least", "between", "key", "optional_positive", "positive"]

MAX_KEY_LENGTH = 255
# C0, DEL and C1 controls, line and paragraph separators, and lone surrogates (not encodable as UTF-8).
_forbidden = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def positive(parameter: str, value: float) -> float:
    """Return `value` if it is a finite number greater than 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise _wrong(parameter, value, "a finite number greater than 0")
    return value


def optional_positive(parameter: str, value: float | None) -> float | None:
    """Return `value` if it is None or a finite number greater than 0."""
    return None if value is None else positive(parameter, value)


def at_least(parameter: str, value: int, minimum: int) -> int:
    """Return `value` if it is a whole number of at least `minimum`."""
    if not _is_whole(value) or value < minimum:
        raise _wrong(parameter, value, f"a whole number of at least {minimum}")
    return value


def between(parameter: str, value: float, low: float, high: float) -> float:
    """Return `value` if low <= value <= high."""
    if not _is_number(value) or not low <= value <= high:
        raise _wrong(parameter, value, f"a number from {low:g} to {high:g}")
    return value


def key(parameter: str, value: str) -> str:
    """Return `value` if it can be a key on every backend.

    Legal: 1 to 255 characters, none of them a control character or a lone surrogate.
    """
    if not _is_str(value):
        message = f"{parameter} must be a str, not {type(value).__name__}"
        raise InvalidKey(message, parameter=parameter)
    if not 0 < len(value) <= MAX_KEY_LENGTH:
        message = f"{parameter} must have 1 to {MAX_KEY_LENGTH} characters, not {len(value)}"
        raise InvalidKey(message, parameter=parameter)
    if _forbidden.search(value):
        message = f"{parameter}={value!r} holds a control character; printable characters are legal"
        raise InvalidKey(message, parameter=parameter)
    return value


# Functions, not inline tests: for callers without a type checker the annotations above are a wish.
def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(parameter: str, value: object, legal: str) -> ConfigurationError:
    return ConfigurationError(f"{parameter}={value!r} is not legal: give {legal}", parameter=parameter)
