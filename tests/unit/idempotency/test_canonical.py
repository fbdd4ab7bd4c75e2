"""Values that mean the same have one spelling, and no two others share it."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError
from holdfast.idempotency.canonical import encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary()
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def meaning(value: Any) -> Any:
    """Return something that `==` compares as we want it: types count, the order of keys does not."""
    if isinstance(value, list):
        return ("list", tuple(meaning(part) for part in value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, meaning(part)) for key, part in value.items()))
    return (type(value), value)


@given(values, values)
def test_two_values_share_a_spelling_only_if_they_mean_the_same(one: Any, other: Any) -> None:
    assert (encode([one], "parts") == encode([other], "parts")) == (meaning(one) == meaning(other))


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_no_separator_in_a_part_makes_it_another(one: list[str], other: list[str]) -> None:
    assert (encode(one, "parts") == encode(other, "parts")) == (one == other)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Status(StrEnum):
    PAID = "paid"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, (2,)), [1, [2]]),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("1E+2"), Decimal(100)),
        (Decimal("-0.0"), Decimal(0)),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Status.PAID, "paid"),
    ],
)
def test_the_same_meaning_has_one_spelling(one: Any, other: Any) -> None:
    assert encode(one, "parts") == encode(other, "parts")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, "1"),
        (1, Decimal(1)),
        (b"a", "a"),
        (None, "None"),
        ("", None),
        ((), ((),)),
        ("é", "e\u0301"),
        (date(2026, 1, 1), "2026-01-01"),
        (Decimal("0.1234567890123456789012345678901234567890"), Decimal("0.1234567890123456789012345678901234567891")),
        (UUID(int=1), str(UUID(int=1))),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
    ],
)
def test_another_meaning_has_another_spelling(one: Any, other: Any) -> None:
    assert encode(one, "parts") != encode(other, "parts")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.1, "parts is a float, which has no canonical form: give a Decimal"),
        (datetime(2026, 1, 1, tzinfo=UTC), "parts is a datetime, which has no canonical form: now"),
        (object(), "parts is a object, which has no canonical form: give None, bool"),
        ({1, 2}, "parts is a set"),
        (Decimal("NaN"), "parts is a Decimal, which has no canonical form: give a finite number"),
        (["a", {"b": (1, 2.5)}], r"parts\[1\]\['b'\]\[1\] is a float"),
        ({0.5: 1}, r"the key of parts\[0.5\] is a float"),
        (bytearray(b"a"), "parts is a bytearray"),
    ],
)
def test_what_has_no_stable_meaning_is_refused_and_named(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        encode(value, "parts")


def test_something_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        encode(endless, "payload")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (10.0, 10, True),
        (-0.0, 0, True),
        (0.1, 0.1, True),
        (0.1, 0.2, False),
        (0.5, Decimal("0.5"), False),
        (
            datetime(2026, 1, 1, 12, tzinfo=UTC),
            datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
            True,
        ),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 12), False),  # noqa: DTZ001 - a naive one is meant
    ],
)
def test_payloads_may_hold_floats_and_moments(one: Any, other: Any, *, same: bool) -> None:
    assert (encode(one, "payload", loose=True) == encode(other, "payload", loose=True)) is same


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_even_payloads_may_hold_what_is_no_number(value: float) -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        encode(value, "payload", loose=True)
