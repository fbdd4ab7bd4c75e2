"""What users give us to keep, as JSON text that every backend returns unchanged."""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import ConfigurationError

__all__ = ["decode", "encode"]

decode = json.loads


def encode(parameter: str, value: Any) -> str:
    """Return `value` as compact ASCII JSON.

    ASCII, because a lone surrogate or a NUL is legal in JSON, as an escape, but in no database's text.

    Raises:
        ConfigurationError: it is not JSON-able; NaN and infinity are not, either.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{parameter} is not JSON-able ({error}): give dict, list, str, int, float, bool and None"
        raise ConfigurationError(message, parameter=parameter) from error
