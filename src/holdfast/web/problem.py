"""Say what went wrong over HTTP: a `HoldfastError` as a problem document (RFC 9457).

This is the one place where errors become responses, so it is also the one place that decides what a
stranger may read: the client's own mistakes are explained in full, the server's are not.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from holdfast.errors import BackendError, ConfigurationError, HoldfastError

__all__ = ["CONTENT_TYPE", "PROBLEM_TYPES", "Problem", "problem"]

CONTENT_TYPE = "application/problem+json"
# The type of a problem is this followed by the error's code.
PROBLEM_TYPES = "https://holdfast.dev/problems/"
MAX_RETRY_AFTER = 2**31
MAX_FACT_LENGTH = 1_000
_MAX_DEPTH = 4
_CLIENT_ERROR, _SERVER_ERROR, _END = 400, 500, 600
# Facts that say where and how the service runs, or that let their reader act as somebody else.
_PRIVATE = frozenset(
    {"backend", "credentials", "dsn", "operation", "owner", "parameter", "password", "secret", "token", "url"}
)
# RFC 9457, 3.2: names of extension members start with a letter and hold letters, digits and "_".
_MEMBER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,63}")
_RESERVED = frozenset({"type", "title", "status", "detail", "instance"})
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Problem:
    """An HTTP response that describes an error.

    Attributes:
        status: 400 to 599.
        document: the members of the problem document, all of them JSON values.
        headers: lower-case names; values are made here and never hold CR or LF.
    """

    status: int
    document: dict[str, object]
    headers: dict[str, str]

    def body(self) -> bytes:
        """Return the document as JSON."""
        return json.dumps(self.document, allow_nan=False).encode()


def problem(error: HoldfastError) -> Problem:
    """Return the response for `error`.

    `type` comes from the error's code, `title` and `status` from its class, `detail` from its message.
    Extension members are its facts, as far as they are JSON values of sane size and not private (the
    store's address, owners, tokens). Status 500 and above that the service itself is to blame for
    (ConfigurationError, BackendError) show neither detail nor facts but `retry_after`.

    Never raises, whatever the error holds.

    Source: RFC 9457 (problem details), RFC 9110, 10.2.3 (Retry-After in whole seconds).
    """
    # The class decides what kind of problem it is: a fact may happen to be called `status` too.
    kind = type(error)
    status = kind.status if kind.status in range(_CLIENT_ERROR, _END) else _SERVER_ERROR
    code = kind.code if _CODE.fullmatch(kind.code) else HoldfastError.code
    document: dict[str, object] = {"type": PROBLEM_TYPES + code, "title": kind.title, "status": status}
    facts = error.facts
    if status >= _SERVER_ERROR and isinstance(error, (ConfigurationError, BackendError)):
        facts = {name: value for name, value in facts.items() if name == "retry_after"}
    elif detail := str(error):
        document["detail"] = detail
    document.update(_public(facts))
    headers = {"content-type": CONTENT_TYPE, "cache-control": "no-store"}
    if (seconds := _retry_after(error)) is not None:
        headers["retry-after"] = str(seconds)
    return Problem(status, document, headers)


def _retry_after(error: HoldfastError) -> int | None:
    """Return whole seconds, rounded up: a client that comes back too early is refused once more."""
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or math.isnan(seconds):
        return None
    return math.ceil(min(max(seconds, 0), MAX_RETRY_AFTER))


def _public(facts: dict[str, object]) -> dict[str, object]:
    hidden = _RESERVED | _PRIVATE
    return {
        name: value
        for name, value in facts.items()
        if name not in hidden and _MEMBER_NAME.fullmatch(name) and value is not None and _is_json(value)
    }


def _is_json(value: object, depth: int = 0) -> bool:  # noqa: PLR0911 - a table of types
    match value:
        case None | bool():
            return True
        case int():
            return abs(value) <= 2**53  # beyond it JSON readers disagree
        case float():
            return math.isfinite(value)
        case str():
            return len(value) <= MAX_FACT_LENGTH and value.isprintable()
        case list() | tuple():
            return depth < _MAX_DEPTH and len(value) <= MAX_FACT_LENGTH and all(_is_json(v, depth + 1) for v in value)
        case dict():
            return all(isinstance(name, str) for name in value) and _is_json(list(value.values()), depth)
        case _:
            return False
