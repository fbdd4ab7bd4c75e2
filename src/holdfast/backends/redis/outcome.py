"""What a failure means: certainly not applied, perhaps applied, or a bug.

Redis carries out a command only when it has all of it. So a request is certainly not applied when it
was not handed to the kernel whole, or when the server answered with an error that it gives before it
does anything. In between, after sending and before an answer, nobody can know.

Errors are recognised by their class names and codes, because redis-py and valkey-py have separate
classes with the same names, and neither is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from holdfast.backends.redis.request import RedisRequest
from holdfast.errors import BackendError, BackendUnavailable, OutcomeUnknown

__all__ = ["NotSent", "answer", "error_code", "failure", "must_reconnect"]

T = TypeVar("T")

# redis-py strips the code of these from the message, so only the class tells.
_CODES = {
    "AskError": "ASK",
    "AuthenticationError": "NOAUTH",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
# Given before anything is done. A script gets OOM, READONLY, MISCONF and NOREPLICAS at its first write or
# never: the server does not fail it for these once it has written (scriptVerifyWriteCommandAllow).
_REFUSALS = frozenset(
    {"ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH", "NOREPLICAS", "OOM"}
    | {"READONLY", "TRYAGAIN", "WRONGPASS"}
)
# Redis before 7 wraps the refusal: "Error running script (...): @user_script: 1: -OOM command not allowed".
_WRAPPED = re.compile(r"@user_script: ?\d+: -(OOM|READONLY|MISCONF|NOREPLICAS) ")


def error_code(error: BaseException) -> str:
    """Return the code that the server's error began with, such as `NOSCRIPT`; "" if there was none."""
    for kind in type(error).__mro__:
        if (code := _CODES.get(kind.__name__)) is not None:
            return code
    first = str(error).partition(" ")[0]
    return first if first.isupper() else ""


def must_reconnect(error: Exception) -> bool:
    """Tell whether the node that answered `error` is the wrong one: it was demoted, or is not up yet."""
    return error_code(error) in {"READONLY", "MASTERDOWN", "LOADING"} or "-READONLY " in str(error)


def _is_refusal(error: BaseException) -> bool:
    """Tell whether the server's answer `error` means that it did nothing now, and may do it later."""
    code, text = error_code(error), str(error)
    if code == "NOPERM":
        # The script itself may be forbidden (nothing done), or a command in its middle (a bug).
        return "script:" not in text
    return code in _REFUSALS or "max number of clients" in text or _WRAPPED.search(text) is not None


class NotSent(Exception):
    """The server certainly did not receive the whole request; `__cause__` says why."""


def answer(place: str, request: RedisRequest[T], reply: Any) -> T:
    """Return what the server's `reply` to `request` means.

    Raises:
        BackendUnavailable: the server refused it before doing anything.
        redis.ResponseError: a script or command failed in itself: a bug, so it passes as it is.
    """
    if not isinstance(reply, Exception):
        return request.decode(reply)
    if _is_refusal(reply):
        raise failure(place, request, reply)
    reply.add_note(f"from {place} for {request!r}")
    raise reply


def failure(place: str, request: RedisRequest[Any], error: Exception, secrets: Collection[str] = ()) -> BackendError:
    """Return what to raise for `request` after `error`: refused, not sent, or sent and not answered.

    `error` becomes its cause, unless that would tell one of the `secrets`: some versions of redis-py
    print a client with its password. Raise it outside of the `except` block, so that nothing is chained.
    """
    cause = error.__cause__ if isinstance(error, NotSent) else error
    reason = f"{type(cause).__name__}: {cause}".removesuffix(": ")
    for secret in secrets:
        reason = reason.replace(secret, "***")
    if request.writes and not isinstance(error, NotSent) and not _is_refusal(error):
        kind: type[BackendError] = OutcomeUnknown
        message = f"{place} did not answer {request!r}, which may have been applied ({reason})"
    else:
        kind = BackendUnavailable
        message = f"{place} could not carry out {request!r}, which was not applied ({reason})"
    failed = kind(message, backend=place, operation=request.name)
    if not any(secret in text for text in _texts(cause) for secret in secrets):
        failed.__cause__ = cause
    return failed


def _texts(error: BaseException | None) -> Iterator[str]:
    """Walk through all that a traceback of `error` would print."""
    while error is not None:
        yield f"{error!r} {error}"
        error = error.__cause__ or error.__context__
