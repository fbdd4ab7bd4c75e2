"""Bad arguments: one wording that names the parameter, the value and what is legal."""

from __future__ import annotations

import math
import socket
import sys
import threading
from typing import Any

import pytest

from holdfast import checks
from holdfast.errors import ConfigurationError, InvalidKey

NOT_POSITIVE: list[Any] = [0, 10**400, 0.0, -1, math.nan, math.inf, -math.inf, True, None, "1", [1]]


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_positive_refuses(value: Any) -> None:
    """Zero, negative, not finite and not a number."""
    with pytest.raises(ConfigurationError, match=r"^ttl=.* is not legal: give a finite number greater than 0$"):
        checks.positive("ttl", value)


def test_positive_hands_through() -> None:
    """A legal value comes back as it is."""
    assert checks.positive("ttl", 0.001) == 0.001
    assert checks.optional_positive("ttl", None) is None


@pytest.mark.parametrize("value", [*NOT_POSITIVE, 2_147_484, 1e10, sys.maxsize, threading.TIMEOUT_MAX])
def test_timeout_refuses(value: Any) -> None:
    """What no socket can wait for, too."""
    with pytest.raises(ConfigurationError, match=r"^timeout=.* is not legal: give a finite number .*\(24 days\)$"):
        checks.timeout("timeout", value)


def test_sockets_and_threads_can_wait_for_the_longest_timeout() -> None:
    """A socket's own counter overflows a little above it, and then gives up at once."""
    assert checks.optional_timeout("timeout", None) is None
    longest = checks.timeout("timeout", checks.LONGEST_TIMEOUT)
    mine, other = socket.socketpair()
    with mine, other:
        mine.settimeout(longest)
        assert longest * 1000 < 2**31 - 1
        threading.Timer(0.05, other.send, [b"x"]).start()
        assert mine.recv(1) == b"x"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", [10**5000, "x" * 10**6, b"x" * 10**6, [1] * 10**5, Broken()], ids=type)
def test_a_message_is_short_whatever_the_value_is(value: Any) -> None:
    """Its repr may be endless, or fail: a ValueError from an int of more than 4300 digits, for example."""
    for check in (checks.positive, checks.timeout, lambda name, value: checks.between(name, value, 0, 1)):
        with pytest.raises(ConfigurationError, match=r"^n=") as refused:
            check("n", value)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None])
def test_at_least_refuses(value: Any) -> None:
    """Too small, and everything that is not a whole number."""
    with pytest.raises(ConfigurationError, match=r"^n=.* is not legal: give a whole number of at least 1$"):
        checks.at_least("n", value, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, None, "0"])
def test_between_refuses(value: Any) -> None:
    """Outside of the range, NaN included."""
    with pytest.raises(ConfigurationError, match=r"^share=.* is not legal: give a number from 0 to 1$"):
        checks.between("share", value, 0, 1)


@pytest.mark.parametrize("key", ["a", "x" * 255, "a b", "é", "{tag}", "a:b", "'; drop table", "\U0001f512"])
def test_legal_keys(key: str) -> None:
    """Anything printable is a key."""
    assert checks.key("name", key) == key


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "a\0", "\x7f", "\x85", "\u2028", "\ud800", b"a", None, 1])
def test_illegal_keys(key: Any) -> None:
    """Empty, too long, with control characters, not encodable, not text: `InvalidKey`, naming the parameter."""
    with pytest.raises(InvalidKey, match="name") as caught:
        checks.key("name", key)
    assert caught.value.facts["parameter"] == "name"
    assert len(str(caught.value)) < 1000
