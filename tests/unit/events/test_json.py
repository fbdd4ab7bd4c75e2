"""What is kept comes back as it was, or is refused before it is kept."""

import sys
from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.events import _json


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = {"a": value} if number % 2 else [value]
    return value


def test_the_deepest_legal_value_comes_back() -> None:
    assert _json.read(_json.encode("payload", nested(64))) == nested(64)


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_deeper_values_are_refused(depth: int) -> None:
    """A relay with a fuller stack could not read them: they would stop its whole batch."""
    with pytest.raises(ConfigurationError, match=r"payload is not JSON-able .*at most 64 levels"):
        _json.encode("payload", nested(depth))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        _json.encode("payload", value)


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",), b"a"])
def test_keys_that_are_no_str_are_refused(key: object) -> None:
    """JSON would make str of most, and drop one of 1 and "1" without a word."""
    with pytest.raises(ConfigurationError, match=r"payload is not JSON-able \(the dict key .* is not a str"):
        _json.encode("payload", [{"a": {key: 1, "1": 2}}])


@pytest.mark.parametrize("text", ["", "{", "[" * (sys.getrecursionlimit() + 9), "nul"])
def test_what_others_wrote_is_marked_if_it_cannot_be_read(text: str) -> None:
    found = _json.read(text)
    assert isinstance(found, _json.Unreadable)
    assert found == text
    assert "no JSON that can be read" in found.why
