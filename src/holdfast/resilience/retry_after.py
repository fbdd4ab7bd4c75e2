"""Read from an error how long its server asked us to stay away (RFC 9110, 10.2.3: Retry-After)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.clock import Clock

__all__ = ["requested_wait"]


def requested_wait(error: Exception, clock: Clock) -> float | None:
    """Return the seconds that `error` asks to wait, 0 or more; None when it asks nothing.

    Looks at `error.retry_after` (holdfast's errors, many SDKs), then at the Retry-After header of
    `error.response` (httpx, requests) or of the error itself (aiohttp), as seconds or as a date. What
    cannot be read counts as absent: a broken header is no reason to fail differently.
    """
    direct = getattr(error, "retry_after", None)
    if isinstance(direct, (int, float)) and not isinstance(direct, bool):
        return _legal(direct)
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    return None if headers is None else _from_header(headers, clock)


def _from_header(headers: Any, clock: Clock) -> float | None:
    try:
        value = headers.get("Retry-After") or headers.get("retry-after")
    except (AttributeError, TypeError):
        return None
    if not isinstance(value, str):
        return None
    try:
        return _legal(float(value))
    except ValueError:
        return _from_date(value, clock)


def _from_date(value: str, clock: Clock) -> float | None:
    # Imported here: few servers send a date, and the module takes longer to import than this package.
    from email.utils import parsedate_to_datetime

    try:
        # A date is the server's wall clock, so only the wall clock can be compared with it.
        return max(0.0, parsedate_to_datetime(value).timestamp() - clock.wall())
    except (ValueError, OverflowError):
        return None


def _legal(seconds: float) -> float | None:
    return max(0.0, float(seconds)) if math.isfinite(seconds) else None
