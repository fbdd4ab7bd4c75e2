"""What users give us to keep, as JSON text that every backend returns unchanged.

What is accepted here must be readable wherever it goes: by a relay deep within an event loop, by a parser
with a smaller stack. So there is a limit to nesting, as idempotency has for payloads, and what others
wrote beyond it is handed on as `Unreadable` instead of failing the rows beside it.
"""

from __future__ import annotations

import json
from typing import Any, Self

from holdfast.errors import ConfigurationError

__all__ = ["Unreadable", "decode", "encode", "pack", "read"]

DEEPEST = 64
_CONTAINERS = (dict, list, tuple)

decode = json.loads


class Unreadable(str):
    """The text of a value that could not be read, and why."""

    __slots__ = ("why",)

    def __new__(cls, text: str, why: str) -> Self:
        """Keep `text` as it is."""
        kept = super().__new__(cls, text)
        kept.why = why
        return kept

    why: str


def encode(parameter: str, value: Any) -> str:
    """Return `value` as compact ASCII JSON.

    ASCII, because a lone surrogate or a NUL is legal in JSON, as an escape, but in no database's text.

    Raises:
        ConfigurationError: it is not JSON-able; NaN, infinity, dict keys that are no str and more than 64
            containers within each other are not, either.
    """
    try:
        _check(value, 1)
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{parameter} is not JSON-able ({error}): give dict, list, str, int, float, bool and None"
        raise ConfigurationError(message, parameter=parameter) from error


def pack(value: Any) -> str:
    """Return what we have put together ourselves as JSON."""
    return json.dumps(value, separators=(",", ":"))


def read(text: str) -> Any:
    """Return the value of `text`, or that it is `Unreadable`."""
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(text, f"it is no JSON that can be read ({error})")


def _check(value: Any, depth: int) -> None:
    # json.dumps would make str of other keys, so that 1 and "1" become one, and it goes deeper than json.loads can.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the dict key {key!r} is not a str")
        value = value.values()
    elif not isinstance(value, _CONTAINERS):
        return
    if depth > DEEPEST:
        raise ValueError(f"it is nested too deeply: at most {DEEPEST} levels are legal")
    for one in value:
        if isinstance(one, _CONTAINERS):
            _check(one, depth + 1)
