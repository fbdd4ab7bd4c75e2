"""Answers as text: JSON that gives back exactly what went in, or refuses it.

A replay must equal the first answer, so whatever JSON would change on the way (a tuple into a list, a key 1 into
"1", two surrogates into one character) is refused when it is stored. Bytes travel as `{"$bytes": "base64"}`; a dict of
the user's own that looks like that is wrapped in `{"$dict": ...}`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

from holdfast.errors import ConfigurationError

__all__ = ["decode", "encode"]

# Python turns numbers of up to 640 digits into text and back whatever its `int_max_str_digits` is; these have 617.
_MOST_BITS = 2048
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEGAL = "None, bool, int, float, str, bytes, and lists and dicts of them (turn a model into a dict)"


def encode(result: Any, *, max_result_bytes: int) -> str:
    """Return `result` as ASCII text.

    Raises:
        ConfigurationError: it would not come back as it is, or takes more than `max_result_bytes`.
    """
    try:
        text = json.dumps(_packed(result, "result"), allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ConfigurationError("result is nested too deeply to be stored") from None
    if len(text) > max_result_bytes:
        message = f"result takes {len(text)} bytes, more than max_result_bytes={max_result_bytes}; store a reference"
        raise ConfigurationError(message)
    return text


def decode(text: str) -> Any:
    """Return the result that `encode` was given."""
    result = json.loads(text)
    return _unpacked(result) if '"$' in text else result


def _packed(value: Any, path: str) -> Any:
    if value is None or isinstance(value, (str, int)):
        _check_scalar(value, path)
        return value
    if isinstance(value, dict):
        packed = {_text_key(key, path): _packed(entry, f"{path}[{key!r}]") for key, entry in value.items()}
        return {"$dict": packed} if len(packed) == 1 and next(iter(packed)).startswith("$") else packed
    if isinstance(value, list):
        return [_packed(entry, f"{path}[{number}]") for number, entry in enumerate(value)]
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    found = "not a finite number" if isinstance(value, float) else f"a {type(value).__name__}"
    raise ConfigurationError(f"{path} is {found}, which cannot be stored: process may return {_LEGAL}")


def _text_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"{path} has a key that is a {type(key).__name__}: keys must be str")
    _check_scalar(key, f"a key of {path}")
    return key


def _check_scalar(value: str | int | None, path: str) -> None:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        message = f"{path} is an int of {value.bit_length()} bits, more than the {_MOST_BITS} that are legal"
        raise ConfigurationError(message)
    if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
        raise ConfigurationError(f"{path} holds a surrogate, which cannot be stored: only whole characters are legal")


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        if (text := value.get("$bytes")) is not None:
            return base64.b64decode(text)
        value = value.get("$dict", value)
    return {key: _unpacked(entry) for key, entry in value.items()}
