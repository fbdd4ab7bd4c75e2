"""Reading how long a server asked us to stay away."""

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.errors import RateLimited
from holdfast.resilience.retry_after import requested_wait
from holdfast.testing.clock import VirtualClock

CLOCK = VirtualClock(started_at=1_700_000_000.0)  # Tue, 14 Nov 2023 22:13:20 GMT


def error_with(**attributes: Any) -> Exception:
    """Return an error with attributes."""
    error = Exception()
    error.__dict__.update(attributes)
    return error


def response(value: Any) -> Exception:
    """Return an error with a response that has the header."""
    return error_with(response=SimpleNamespace(headers={"Retry-After": value}))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RateLimited("no", retry_after=2.5), 2.5),
        (error_with(retry_after=3), 3.0),
        (error_with(retry_after=-1), 0.0),
        (response("120"), 120.0),
        (response("Tue, 14 Nov 2023 22:14:00 GMT"), 40.0),
        (response("Tue, 14 Nov 2023 22:00:00 GMT"), 0.0),
        (error_with(headers={"retry-after": "7"}), 7.0),
    ],
)
def test_what_is_understood(error: Exception, seconds: float) -> None:
    """Attributes and headers, seconds and dates; the past counts as now."""
    assert requested_wait(error, CLOCK) == seconds


@pytest.mark.parametrize(
    "error",
    [
        Exception(),
        RateLimited("no"),
        error_with(retry_after=True),
        error_with(retry_after="soon"),
        error_with(retry_after=float("nan")),
        response("soon"),
        response("inf"),
        response(""),
        response(None),
        response("Tue, 99 Nov 2023 22:14:00 GMT"),
        error_with(headers=3),
        error_with(response="text"),
    ],
)
def test_what_cannot_be_read_counts_as_absent(error: Exception) -> None:
    """A broken header is no reason to fail differently."""
    assert requested_wait(error, CLOCK) is None
