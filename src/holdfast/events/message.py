"""A message on its way: from an outbox through a broker to a consumer's inbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Backlog", "DeadLetter", "Delivery", "Message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, the same on its whole way.

    Attributes:
        id: what consumers recognise a duplicate by within the topic, 1 to 255 printable characters.
        topic: where it is published, 1 to 255 printable characters.
        payload: any JSON-able value.
        key: messages of one topic and key keep their order; "" asks for none.
        headers: short texts beside the payload: trace context, content type.
    """

    id: str
    topic: str
    payload: Any = None
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that a broker handed out, and what it needs to know to take the acknowledgement."""

    message: Message
    receipt: Any


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox.

    Attributes:
        messages: not yet published, those that wait for another try included.
        oldest_age: seconds since the oldest of them was added; 0.0 when there is none.
        dead: in the dead letters of the outbox.
    """

    messages: int
    oldest_age: float
    dead: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        number: names it for `DeadLetters.retry` and `discard`.
        source: the consumer that gave it up; "" for the relay of the outbox.
        message: the message itself.
        attempts: how often it was tried.
        error: the last error, type and text.
        died_at: seconds since 1970.
    """

    number: int
    source: str
    message: Message
    attempts: int
    error: str
    died_at: float
