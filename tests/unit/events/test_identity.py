"""UUIDs of version 7 are what RFC 9562 says, and sort by time."""

import random
import uuid

from hypothesis import given
from hypothesis import strategies as st

from holdfast.events import uuid7

MOMENTS = st.floats(min_value=0, max_value=4e9)


@given(MOMENTS, st.integers())
def test_version_variant_and_text_are_canonical(at: float, seed: int) -> None:
    parsed = uuid.UUID(text := uuid7(at, random.Random(seed)))
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)
    assert abs((parsed.int >> 80) / 1000 - at) < 0.002


@given(MOMENTS, MOMENTS)
def test_later_ones_sort_behind_earlier_ones(one: float, other: float) -> None:
    earlier, later = sorted([one, other])
    if later - earlier > 1e-3:
        assert uuid7(earlier) < uuid7(later)


def test_the_example_of_the_rfc_has_our_time_stamp() -> None:
    """RFC 9562, appendix A.6: 2022-02-22 14:22:22 -05:00."""
    assert uuid7(1645557742.0).startswith("017f22e2-79b0-7")


def test_no_two_are_equal() -> None:
    assert len({uuid7(1.0) for _ in range(10_000)}) == 10_000
