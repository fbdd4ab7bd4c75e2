"""Faults are checked where they are made, not when the dice fall."""

from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.testing.faults import Faults


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crash": 7}, "crash=7 is not legal: give a number from 0 to 1"),
        ({"pause": -1}, "pause=-1 "),
        ({"slow": "x"}, "slow='x' "),
        ({"cancel": float("nan")}, "cancel=nan "),
        ({"duplicate": True}, "duplicate=True "),
        ({"slow_seconds": -0.1}, "slow_seconds=-0.1 is not legal: give a number from 0 to 86400"),
        ({"pause_seconds": float("inf")}, "pause_seconds=inf "),
    ],
)
def test_what_is_no_probability_or_duration_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Faults(**options)


def test_everything_may_always_or_never_happen() -> None:
    assert Faults(crash=1, slow=0, slow_seconds=0).crash == 1
