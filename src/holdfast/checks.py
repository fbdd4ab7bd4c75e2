"""Checks of arguments, with one wording for all of them.

Each returns the value it was given, so a constructor reads `self.ttl = positive("ttl", ttl)`.
"""

from __future__ import annotations

import re
import sys

from holdfast.errors import ConfigurationError, InvalidKey

__all__ = [
    "LONGEST_TIMEOUT",
    "at_least",
    "between",
    "key",
    "optional_positive",
    "optional_timeout",
    "positive",
    "shown",
    "timeout",
]

MAX_KEY_LENGTH = 255
# A blocking socket counts its timeout in milliseconds in 32 bits and begins again at 0 beyond them: with a timeout of
# 4294967.4 s, `recv` gives up after a tenth of a second. So it is 24 days, and a margin for arithmetic.
LONGEST_TIMEOUT = 2_147_000.0
# Characters of a wrong value that a message repeats.
MOST_SHOWN = 200
# C0, DEL and C1 controls, line and paragraph separators, and lone surrogates (not encodable as UTF-8).
_forbidden = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def positive(parameter: str, value: float) -> float:
    """Return `value` if it is a finite number greater than 0."""
    # An int may be greater than every float, and calculating with it then fails.
    if not _is_number(value) or not 0 < value <= sys.float_info.max:
        raise _wrong(parameter, value, "a finite number greater than 0")
    return value


def optional_positive(parameter: str, value: float | None) -> float | None:
    """Return `value` if it is None or a finite number greater than 0."""
    return None if value is None else positive(parameter, value)


def timeout(parameter: str, value: float) -> float:
    """Return `value` if it is a number of seconds that every thread, socket and event loop can wait for."""
    if not _is_number(value) or not 0 < value <= LONGEST_TIMEOUT:
        raise _wrong(parameter, value, f"a finite number greater than 0, at most {LONGEST_TIMEOUT:.0f} (24 days)")
    return value


def optional_timeout(parameter: str, value: float | None) -> float | None:
    """Return `value` if it is None or a legal `timeout`."""
    return None if value is None else timeout(parameter, value)


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


def shown(value: object) -> str:
    """Return `repr(value)` for a message: short, and never failing, whatever was given."""
    try:
        text = repr(value[: MOST_SHOWN + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:  # noqa: BLE001 - an int of more than 4300 digits, or what a class of the user's raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


# Functions, not inline tests: for callers without a type checker the annotations above are a wish.
def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(parameter: str, value: object, legal: str) -> ConfigurationError:
    return ConfigurationError(f"{parameter}={shown(value)} is not legal: give {legal}", parameter=parameter)
