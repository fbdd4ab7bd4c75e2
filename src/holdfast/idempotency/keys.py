"""Keys that say what an operation means, so that every retry of it has the same one.

A key that is random or holds the time is a new operation with every retry, which is the double charge that keys are
for. So a key is either made once by the client and sent along with each retry (the `Idempotency-Key` header), or
derived from what identifies the operation:

    idempotency_key("charge", order.id)            # not: uuid4(), time(), hash(body)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID

from holdfast import checks
from holdfast.errors import ConfigurationError
from holdfast.idempotency.canonical import encode

__all__ = ["KeyPart", "fingerprint", "idempotency_key", "identity"]

_Scalar: TypeAlias = str | int | bytes | Decimal | date | UUID | Enum | None
KeyPart: TypeAlias = "_Scalar | list[KeyPart] | tuple[KeyPart, ...] | Mapping[str, KeyPart]"
LONGEST_NAMESPACE = 128


def idempotency_key(*parts: KeyPart, namespace: str = "") -> str:
    """Return the key of the operation that `parts` identify: the same parts, the same key, on every machine.

    Different parts have different keys (SHA-256 of their canonical form); the parts cannot be read from it. It has 64
    characters of printable ASCII, or more with a `namespace`, and is legal in an HTTP header and on every backend.

    Args:
        parts: at least one; None, bool, int, str, bytes, Decimal, date, UUID, an Enum of these, or tuples, lists
            and dicts of them. Name the operation too ("charge", order_id), else two operations share a key.
        namespace: put in front, readable, `namespace:...`; printable characters. Letters and digits of ASCII and
            `_.-~/:@` stay as they are, others are percent-encoded; 0 to 128 characters afterwards.

    Raises:
        ConfigurationError: no parts, or one without canonical form, such as a float or a datetime.

    >>> idempotency_key("charge", 42) == idempotency_key("charge", 42)
    True
    >>> idempotency_key("a:b", "c") == idempotency_key("a", "b:c")
    False
    """
    if not parts:
        raise ConfigurationError("parts is empty: give what identifies the operation, such as its name and an id")
    digest = hashlib.sha256(b"holdfast.key.1" + encode(parts, "parts")).hexdigest()
    return f"{_namespace(namespace)}:{digest}" if namespace else digest


def fingerprint(payload: Any) -> str:
    """Return 64 hex digits that are the same for every payload with the same meaning.

    Accepts what `idempotency_key` does, and floats and datetimes. The order of keys does not count, and 1.0 is 1, so
    a JSON body may be fingerprinted parsed; `bytes` are fingerprinted as they are.

    Raises:
        ConfigurationError: something in `payload` has no canonical form.
    """
    return hashlib.sha256(b"holdfast.payload.1" + encode(payload, "payload", loose=True)).hexdigest()


def identity(scope: str, endpoint: str, key: str) -> str:
    """Return what tells one stored answer from all others, 64 hex digits; safe to log, unlike the key."""
    return hashlib.sha256(b"holdfast.identity.1" + encode((scope, endpoint, key), "identity")).hexdigest()


def _namespace(namespace: str) -> str:
    # The percent sign is encoded, too, so different namespaces stay different; and so are the characters that mean
    # something in a header: spaces at its ends, commas, quotes.
    encoded = quote(checks.key("namespace", namespace), safe="/:@")
    if len(encoded) > LONGEST_NAMESPACE:
        message = f"namespace must have at most {LONGEST_NAMESPACE} characters, percent-encoded, not {len(encoded)}"
        raise ConfigurationError(message)
    return encoded
