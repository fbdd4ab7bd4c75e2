"""A message on its way: from an outbox through a broker to a consumer's inbox."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast import checks
from holdfast.errors import ConfigurationError
from holdfast.events import _json

__all__ = [
    "Backlog",
    "DeadLetter",
    "Delivery",
    "Message",
    "check_headers",
    "check_labels",
    "check_message",
    "legal",
    "read_message",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, the same on its whole way.

    Attributes:
        id: what consumers recognise a duplicate by within the topic, 1 to 255 printable characters.
        topic: where it is published, 1 to 255 printable characters.
        payload: any JSON-able value, with str keys, at most 64 levels deep.
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


def check_message(message: Message) -> None:
    """Refuse a message that not every store and broker can hold, with a `ConfigurationError`."""
    check_labels(message)
    _json.encode("payload", message.payload)


def check_labels(message: Message) -> None:
    """Refuse all but a payload that is not JSON-able, for callers that encode it anyway before they send anything."""
    checks.key("message id", message.id)
    checks.key("topic", message.topic)
    if message.key != "":
        checks.key("key", message.key)
    check_headers(message.headers)
    if isinstance(message.payload, _json.Unreadable):
        raise ConfigurationError(f"payload is not legal: {message.payload.why}", parameter="payload")


def check_headers(headers: Any) -> Mapping[str, str]:
    """Return `headers` if they are texts with names."""
    if isinstance(headers, Mapping) and all(isinstance(text, str) for text in (*headers, *headers.values())):
        return headers
    message = f"headers={checks.shown(headers)} is not legal: give str names with str values"
    raise ConfigurationError(message, parameter="headers")


def read_message(message_id: str, topic: str, key: str, payload: str, headers: str) -> Message:
    """Return the message of these texts; what cannot be read is marked in its payload."""
    value, texts = _json.read(payload), _json.read(headers)
    if not isinstance(texts, dict):
        value, texts = _json.Unreadable(payload, f"its headers cannot be read: {headers[:100]!r}"), {}
    return Message(id=message_id, topic=topic, key=key, payload=value, headers=texts)


def legal(message: Message, topic: str) -> Message:
    """Return `message` as a message of `topic` that every store can hold, to be kept aside.

    Names that are not legal become hashes, so that different ones stay different; a payload that is not
    becomes a text.
    """
    return Message(
        id=_legal_name(message.id),
        topic=topic,
        payload=_legal_payload(message.payload),
        key=_legal_name(message.key) if message.key != "" else "",
        headers=_legal_headers(message.headers),
    )


def _legal_name(name: Any) -> str:
    try:
        return checks.key("name", name)
    except ConfigurationError:
        return f"illegal-{hashlib.sha256(ascii(name).encode()).hexdigest()[:32]}"


def _legal_payload(payload: Any) -> Any:
    try:
        _json.encode("payload", payload)
    except ConfigurationError:
        return _spelled(payload)
    return payload


def _legal_headers(headers: Any) -> Mapping[str, str]:
    try:
        return check_headers(headers)
    except ConfigurationError:
        return {}


def _spelled(value: Any) -> str:
    try:
        return ascii(value)
    except Exception:  # noqa: BLE001 - a value's own words, or a nesting too deep for them
        return f"a {type(value).__name__}"
