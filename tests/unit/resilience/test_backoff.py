"""The exponential interval of the back-off."""

import pytest

from holdfast.resilience.backoff import longest_backoff


def test_it_doubles_up_to_the_maximum() -> None:
    """Each retry doubles the interval until max_delay."""
    assert [longest_backoff(n, base_delay=0.5, max_delay=3.0) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("retry", [1025, 10**9])
def test_it_never_overflows(retry: int) -> None:
    """The ten-thousandth retry has an interval too."""
    assert longest_backoff(retry, base_delay=1.0, max_delay=30.0) == 30.0
    assert longest_backoff(retry, base_delay=0.0, max_delay=30.0) == 0.0
