"""Checks of arguments, with one wording for all of them.

Each returns the value it was given, so a constructor reads `self.ttl = positive("ttl", ttl)`. What it returns is a
plain str, int or float, also when it was given an `enum.StrEnum`, an `IntEnum` or a `numpy.float64`: subclasses may
format themselves as they like (`f"{Job.REPORT}"` is not its value), and not every driver takes them.
"""

from __future__ import annotations

import re
import sys

from holdfast.errors import ConfigurationError, InvalidKey

__all__ = [
    "LONGEST_TIMEOUT",
    "at_least",
    "between",
    "flag",
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
_GREATEST = sys.float_info.max
# Characters of a wrong value that a message repeats.
MOST_SHOWN = 200
# C0, DEL and C1 controls, line and paragraph separators, and lone surrogates (not encodable as UTF-8).
_forbidden = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def positive(parameter: str, value: float) -> float:
    """Return `value` if it is a finite number greater than 0."""
    number = _number(value)
    # An int may be greater than every float, and calculating with it then fails.
    if number is None or not 0 < number <= _GREATEST:
        raise _wrong(parameter, value, "a finite number greater than 0")
    return number


def optional_positive(parameter: str, value: float | None) -> float | None:
    """Return `value` if it is None or a finite number greater than 0."""
    return None if value is None else positive(parameter, value)


def timeout(parameter: str, value: float) -> float:
    """Return `value` if it is a number of seconds that every thread, socket and event loop can wait for."""
    number = _number(value)
    if number is None or not 0 < number <= LONGEST_TIMEOUT:
        raise _wrong(parameter, value, f"a finite number greater than 0, at most {LONGEST_TIMEOUT:.0f} (24 days)")
    return number


def optional_timeout(parameter: str, value: float | None) -> float | None:
    """Return `value` if it is None or a legal `timeout`."""
    return None if value is None else timeout(parameter, value)


def at_least(parameter: str, value: int, minimum: int) -> int:
    """Return `value` if it is a whole number of at least `minimum`."""
    number = _whole(value)
    if number is None or number < minimum:
        raise _wrong(parameter, value, f"a whole number of at least {minimum}")
    return number


def between(parameter: str, value: float, low: float, high: float) -> float:
    """Return `value` if low <= value <= high."""
    number = _number(value)
    if number is None or not low <= number <= high:
        raise _wrong(parameter, value, f"a number from {low:g} to {high:g}")
    return number


def key(parameter: str, value: str) -> str:
    """Return `value` as a plain str if it can be a key on every backend. Use what it returns.

    Legal: 1 to 255 characters, none of them a control character or a lone surrogate.
    """
    text = value if type(value) is str else _text(value)  # spares most callers a call
    if text is None:
        message = f"{parameter} must be a str, not {type(value).__name__}"
        raise InvalidKey(message, parameter=parameter)
    if not 0 < len(text) <= MAX_KEY_LENGTH:
        message = f"{parameter} must have 1 to {MAX_KEY_LENGTH} characters, not {len(text)}"
        raise InvalidKey(message, parameter=parameter)
    if _forbidden.search(text):
        message = f"{parameter}={text!r} holds a control character; printable characters are legal"
        raise InvalidKey(message, parameter=parameter)
    return text


def flag(parameter: str, value: bool) -> bool:  # noqa: FBT001 - it checks one
    """Return `value` if it is True or False: "no" and "0" are true, and nobody means that."""
    if value is not True and value is not False:
        raise _wrong(parameter, value, "True or False")
    return value


def shown(value: object) -> str:
    """Return `repr(value)` for a message: short, and never failing, whatever was given."""
    try:
        text = repr(value[: MOST_SHOWN + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:  # noqa: BLE001 - an int of more than 4300 digits, or what a class of the user's raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


# For callers without a type checker the annotations above are a wish, so these take anything. They call the methods of
# the plain types themselves, because a subclass may have its own: str() of an Enum with str mixed in is its name.


def _text(value: object) -> str | None:
    return str.__str__(value) if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return int.__int__(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    kind = type(value)
    if kind is float or kind is int:
        return value  # type: ignore[return-value]  # told by the line above
    return float.__float__(value) if isinstance(value, float) else _whole(value)


def _wrong(parameter: str, value: object, legal: str) -> ConfigurationError:
    return ConfigurationError(f"{parameter}={shown(value)} is not legal: give {legal}", parameter=parameter)
