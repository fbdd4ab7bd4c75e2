"""One spelling for one meaning: values as bytes that are equal exactly when the values mean the same.

Each value becomes `tag length ":" content`, and a container holds its parts one after the other. Because every
length is written down, no two different values share a spelling: `("a:b", "c")` and `("a", "b:c")` differ, and so
do `1`, `True` and `"1"`.

What has no stable meaning is refused, with the place where it was found: an object's `repr` may hold its address, a
float is rarely what was meant (0.1 + 0.2 is not 0.3), and a time of day is nearly always `now()`, which names the
attempt and not the operation. Payloads are data that came from elsewhere, so `loose` accepts those two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from holdfast.errors import ConfigurationError

__all__ = ["encode"]

_DEEPEST = 64
_LEGAL = "None, bool, int, str, bytes, Decimal, date, UUID, an Enum of these, or a list, tuple or dict of them"


def encode(value: Any, parameter: str, *, loose: bool = False) -> bytes:
    """Return the canonical bytes of `value`.

    Lists and tuples are the same sequence; the order of a dict's keys does not count. `Decimal("1.0")` is
    `Decimal("1.00")`, but no other type equals another: `Decimal(1)` is not `1`. Text is compared by code point,
    without Unicode normalisation.

    Args:
        value: what to encode, at most 64 containers deep.
        parameter: what messages call it.
        loose: also accept finite floats (1.0 is then 1, as in JSON) and datetimes.

    Raises:
        ConfigurationError: something in `value` has no canonical form; the message names it.
    """
    return _Encoder(loose=loose).encode(value, parameter, 0)


class _Encoder:
    def __init__(self, *, loose: bool) -> None:
        self.loose = loose

    def encode(self, value: Any, path: str, depth: int) -> bytes:
        # bool is an int, and datetime a date: the special ones come first.
        if value is None or isinstance(value, bool):
            return _spelled(b"c", repr(value).encode())
        if isinstance(value, str):
            return _spelled(b"s", str.__str__(value).encode("utf-8", "surrogatepass"))
        if isinstance(value, int):
            return _spelled(b"i", b"%x" % value)
        if isinstance(value, bytes):
            return _spelled(b"b", value)
        if isinstance(value, (list, tuple, Mapping)):
            return self._container(value, path, depth + 1)
        return self._scalar(value, path, depth)

    def _container(self, value: Any, path: str, depth: int) -> bytes:
        if depth > _DEEPEST:
            raise ConfigurationError(f"{path} is nested too deeply: at most {_DEEPEST} levels are legal")
        if isinstance(value, Mapping):
            entries = sorted(self._entry(key, entry, path, depth) for key, entry in value.items())
            return _spelled(b"m", b"".join(entries))
        parts = (self.encode(part, f"{path}[{number}]", depth) for number, part in enumerate(value))
        return _spelled(b"l", b"".join(parts))

    def _entry(self, key: Any, value: Any, path: str, depth: int) -> bytes:
        place = f"{path}[{key!r}]"
        return self.encode(key, f"the key of {place}", depth) + self.encode(value, place, depth)

    def _scalar(self, value: Any, path: str, depth: int) -> bytes:
        if isinstance(value, Enum):
            return self.encode(value.value, path, depth)
        if isinstance(value, Decimal):
            return _spelled(b"d", _decimal(value, path))
        if isinstance(value, UUID):
            return _spelled(b"u", value.bytes)
        if isinstance(value, datetime):
            return _spelled(b"t", self._moment(value, path))
        if isinstance(value, date):
            return _spelled(b"D", value.isoformat().encode())
        if isinstance(value, float):
            return self._float(value, path)
        raise _refused(value, path, f"give {_LEGAL}")

    def _float(self, value: float, path: str) -> bytes:
        if not self.loose:
            raise _refused(value, path, "give a Decimal, or whole units such as cents")
        if not math.isfinite(value):
            raise _refused(value, path, "give a finite number")
        return _spelled(b"i", b"%x" % int(value)) if value.is_integer() else _spelled(b"f", repr(value).encode())

    def _moment(self, value: datetime, path: str) -> bytes:
        if not self.loose:
            advice = "now() names the attempt, not the operation; give a date, or the isoformat() of a moment that does"
            raise _refused(value, path, advice)
        return (value if value.tzinfo is None else value.astimezone(UTC)).isoformat().encode()


def _spelled(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _decimal(value: Decimal, path: str) -> bytes:
    if not value.is_finite():
        raise _refused(value, path, "give a finite number")
    if not value:
        return b"0"
    # Not normalize(): it rounds to the precision of the thread's decimal context.
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    return f"{'-' * sign}{stripped}e{int(exponent) + len(text) - len(stripped)}".encode()


def _refused(value: object, path: str, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is a {type(value).__name__}, which has no canonical form: {advice}")
