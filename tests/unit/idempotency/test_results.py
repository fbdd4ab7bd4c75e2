"""What is stored comes back as it was, or is refused."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError
from holdfast.idempotency import results

ROOM = 1_000_000

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
keys = st.text() | st.sampled_from(["$bytes", "$dict", "$"])
storable = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)


@given(storable)
def test_every_legal_answer_comes_back(result: Any) -> None:
    text = results.encode(result, max_result_bytes=ROOM)
    assert text.isascii()
    assert repr(results.decode(text)) == repr(result)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((1, 2), "result is a tuple"),
        ({"a": [(1,)]}, r"result\['a'\]\[0\] is a tuple"),
        ({1: "one"}, "result has a key that is a int"),
        ({10**5000: "one"}, "result has a key that is a int"),
        ([10**5000], r"result\[0\] is an int of 16610 bits, more than the 2048 that are legal"),
        (-(2**2048), "result is an int of 2049 bits"),
        ("a\ud800", "result holds a surrogate"),
        (["\ud83d\ude00"], r"result\[0\] holds a surrogate"),
        ({"a": {"\udc00": 1}}, r"a key of result\['a'\] holds a surrogate"),
        (float("nan"), "result is not a finite number"),
        ([float("-inf")], r"result\[0\] is not a finite number"),
        ({"a": object()}, r"result\['a'\] is a object"),
        (bytearray(b"a"), "result is a bytearray"),
    ],
)
def test_what_would_come_back_changed_is_refused_and_named(result: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        results.encode(result, max_result_bytes=ROOM)


def test_the_largest_numbers_come_back_whatever_this_python_converts() -> None:
    """A stored answer is read by other processes, whose limit of digits may be the lowest that there is."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(sys.int_info.str_digits_check_threshold)
    try:
        for result in (2**2048 - 1, 1 - 2**2048):
            assert results.decode(results.encode(result, max_result_bytes=ROOM)) == result
    finally:
        sys.set_int_max_str_digits(before)


def test_something_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        results.encode(endless, max_result_bytes=ROOM)


def test_a_large_answer_is_refused() -> None:
    assert results.encode("x" * 8, max_result_bytes=10) == '"xxxxxxxx"'
    with pytest.raises(ConfigurationError, match="max_result_bytes=10"):
        results.encode("x" * 9, max_result_bytes=10)
