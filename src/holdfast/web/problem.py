"""Say what went wrong over HTTP: a `HoldfastError` as a problem document (RFC 9457).

This is the one place where errors become responses, so it is also the one place that decides what a
stranger may read: the client's own mistakes and what a policy refused are explained in full, the
server's failures are not.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from holdfast.errors import HoldfastError, Refused

__all__ = ["CONTENT_TYPE", "PROBLEM_TYPES", "Problem", "problem"]

CONTENT_TYPE = "application/problem+json"
# The type of a problem is this followed by the error's code.
PROBLEM_TYPES = "https://holdfast.dev/problems/"
MAX_RETRY_AFTER = 2**31
MAX_FACT_LENGTH = 1_000
_MAX_DEPTH = 5
_CLIENT_ERROR, _SERVER_ERROR, _END = 400, 500, 600
# Facts that say where and how the service runs: `name` is where a policy stands in the source unless the
# user gave it another one.
_PRIVATE = frozenset({"backend", "host", "hostname", "name", "operation", "owner", "parameter", "uri"})
# Parts of names whose facts let their reader act as somebody else. Better one harmless fact too few
# ("tokens_left") than one such fact too many.
_SECRET = re.compile(
    "accesskey|apikey|authentication|authorization|connectionstring|cookie|credential|dsn|passphrase|passw|"
    "privatekey|secret|session|signature|token|url"
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
    store's address, owners, tokens, names in the source). Status 500 and above shows neither detail nor
    facts but `retry_after`, unless it is a `Refused`: a refusal tells its caller what to do, a failure may
    quote anything, such as the address of a database with its password.

    Never raises, whatever the error holds.

    Source: RFC 9457 (problem details), RFC 9110, 10.2.3 (Retry-After in whole seconds).
    """
    # The class decides what kind of problem it is: a fact may happen to be called `status` too.
    kind = type(error)
    status = kind.status if kind.status in range(_CLIENT_ERROR, _END) else _SERVER_ERROR
    code = kind.code if _CODE.fullmatch(str(kind.code)) else HoldfastError.code
    document: dict[str, object] = {"type": f"{PROBLEM_TYPES}{code}", "title": str(kind.title), "status": status}
    facts = error.facts
    if status >= _SERVER_ERROR and not isinstance(error, Refused):
        facts = {name: value for name, value in facts.items() if name == "retry_after"}
    elif detail := _detail(error, status):
        document["detail"] = detail
    document.update(_public(facts))
    headers = {"content-type": CONTENT_TYPE, "cache-control": "no-store"}
    if (seconds := _retry_after(facts.get("retry_after", getattr(kind, "retry_after", None)))) is not None:
        headers["retry-after"] = str(seconds)
    return Problem(status, document, headers)


def _detail(error: HoldfastError, status: int) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a class of the user's; its error must still be answered
        return ""
    # The message of a policy that stands in front of a dependency quotes its name.
    name = error.facts.get("name")
    return "" if status >= _SERVER_ERROR and isinstance(name, str) and name in text else text


def _retry_after(seconds: object) -> int | None:
    """Return whole seconds, rounded up: a client that comes back too early is refused once more."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    bounded = min(max(seconds, 0), MAX_RETRY_AFTER)
    return None if math.isnan(bounded) else math.ceil(bounded)


def _public(facts: dict[str, object]) -> dict[str, object]:
    hidden = _RESERVED | _PRIVATE
    return {
        name: value
        for name, value in facts.items()
        if name not in hidden and _MEMBER_NAME.fullmatch(name) and value is not None and _is_json({name: value})
    }


def _is_secret(name: str) -> bool:
    return _SECRET.search(re.sub(r"[^a-z]", "", name.lower())) is not None


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
            legal = all(isinstance(name, str) and not _is_secret(name) for name in value)
            return legal and _is_json(list(value.values()), depth)
        case _:
            return False
