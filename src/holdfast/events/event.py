"""An event: something that happened, named in the past tense, and never changed afterwards."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from holdfast import checks
from holdfast.errors import ConfigurationError
from holdfast.events._ranges import MOST
from holdfast.events.identity import uuid7

__all__ = ["ANY", "AnyVersion", "Event", "Position", "give_id"]


# Digits of a 64-bit number.
LONGEST_NUMBER = 20


class AnyVersion(enum.Enum):
    """The type of `ANY`."""

    ANY = "any"

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyVersion.ANY
"""As `expected_version`: append whatever the stream's version is. It gives up the protection against lost updates."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the order of all events; opaque, but comparable and storable as `str(position)`.

    On PostgreSQL it is the pair of the writing transaction's id and the event's number: numbers alone
    become visible out of order, so a reader that remembers only a number loses events (measured: a
    quarter of them). Elsewhere the number alone is enough and the first part is 0.
    """

    transaction: int
    number: int

    START: ClassVar[Position]
    """Before the first event."""

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that `str(position)` wrote.

        >>> Position.parse("731.42") > Position.START
        True
        """
        transaction, point, number = text.partition(".") if _is_str(text) else ("", "", "")
        if not (point and transaction.isdecimal() and number.isdecimal()):
            raise _no_position(text)
        if max(len(transaction), len(number)) > LONGEST_NUMBER:  # int() takes long for long texts
            raise _no_position(text)
        return cls(int(transaction), int(number)).checked()

    def checked(self) -> Position:
        """Return this position if a store can hold it.

        Raises:
            ConfigurationError: it cannot.
        """
        if not (0 <= self.transaction < 2**64 and 0 <= self.number <= MOST):
            raise _no_position(str(self))
        return self

    def __str__(self) -> str:
        return f"{self.transaction}.{self.number}"


def _no_position(text: object) -> ConfigurationError:
    message = f"position={checks.shown(text)} is not legal: give what str(position) returned"
    return ConfigurationError(message, parameter="position")


def _is_str(value: object) -> bool:
    return isinstance(value, str)


Position.START = Position(0, 0)

# The default of `Event.id`, known by being this very object.
_LATER: Final = "given when it is asked for"
_giving = threading.Lock()


@dataclass(frozen=True, slots=True)
class Event:
    """One event, before and after it is stored.

        Event("payment.charged", {"order": "123", "amount": 995})

    Attributes:
        type: what happened, 1 to 255 printable characters.
        data: the facts, JSON-able with str keys, at most 64 levels deep (tuples come back as lists).
        metadata: facts about the recording (who, from where, because of what), JSON-able.
        id: a UUID; the same id is stored once, so appending again after an unknown outcome is safe. It is
            given when somebody asks for it, or by `append` from the store's clock and dice, and then kept.
        stream: whose event it is; "" until it is stored.
        version: its number in the stream, from 1; 0 until it is stored.
        position: its place among all events; None until it is stored.
        recorded_at: seconds since 1970 on the store's clock; 0.0 until it is stored. Not an order.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    id: str = field(default=_LATER, kw_only=True)
    stream: str = field(default="", kw_only=True)
    version: int = field(default=0, kw_only=True)
    position: Position | None = field(default=None, kw_only=True)
    recorded_at: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.id is _LATER:
            # Without a value the slot leaves the question to __getattr__.
            object.__delattr__(self, "id")

    def __getattr__(self, name: str) -> str:
        if name != "id":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return give_id(self, uuid7)


def give_id(event: Event, make: Callable[[], str]) -> str:
    """Return the id of `event`, which is `make()` if it has none yet.

    The simulator, whose runs must be the same for the same seed, is why an event does not have one from
    the start: only the store knows whose clock and dice there are.
    """
    slot: Any = Event.__dict__["id"]
    with _giving:  # two threads that append one event must agree on its id
        try:
            return str(slot.__get__(event, Event))
        except AttributeError:
            made = make()
            object.__setattr__(event, "id", made)
            return made
