"""Bad arguments: one wording that names the parameter, the value and what is legal."""

from __future__ import annotations

import math
import socket
import sys
import threading
from enum import Enum, IntEnum, StrEnum
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


class Job(str, Enum):  # noqa: UP042 - f"{Job.REPORT}" is "Job.REPORT", as in the code of many
    REPORT = "report"


class Task(StrEnum):
    REPORT = "report"


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()

    __repr__ = __str__

    def __format__(self, _: str) -> str:
        return self.upper()


class Size(IntEnum):
    TWO = 2


class Share(float):
    """As `numpy.float64` is."""

    __slots__ = ()

    def __float__(self) -> float:
        return 7.0


@pytest.mark.parametrize("value", [Job.REPORT, Task.REPORT, Shouting("report")], ids=type)
def test_a_key_is_a_plain_str_with_the_value_of_what_was_given(value: str) -> None:
    """A key that formats itself would be another key where it is formatted: two holders of one lock."""
    key = checks.key("name", value)
    assert type(key) is str
    assert f"{key}" == "report"


def test_a_number_is_a_plain_number() -> None:
    """Redis is told numbers by their repr, and asyncpg by their type."""
    for check in (
        checks.positive,
        checks.timeout,
        lambda name, value: checks.between(name, value, 0, 9),
        lambda name, value: checks.at_least(name, value, 1),
    ):
        number = check("n", Size.TWO)
        assert (type(number), number) == (int, 2)
    for check in (checks.positive, checks.timeout, lambda name, value: checks.between(name, value, 0, 9)):
        number = check("n", Share(0.5))
        assert (type(number), number) == (float, 0.5)


@pytest.mark.parametrize("value", ["no", "", 0, 1, None, [], math.nan])
def test_flag_refuses(value: Any) -> None:
    """What is neither True nor False: "no" counts as true."""
    with pytest.raises(ConfigurationError, match=r"^heartbeat=.* is not legal: give True or False$"):
        checks.flag("heartbeat", value)
    assert checks.flag("heartbeat", True) is True  # noqa: FBT003
    assert checks.flag("heartbeat", False) is False  # noqa: FBT003


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
