"""Which errors are worth another attempt, when the user did not say: `is_transient`.

Known clients are recognised by the module and name of their exception classes, so nothing is
imported for it. An HTTP status, where a client's error carries one, decides before its class does.

Only errors that the same call can plausibly survive a moment later are here. A refused login, a failed
certificate check or a 404 stays what it is however often it is asked, and retrying it hides the mistake.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import BackendUnavailable, ConfigurationError, Refused

__all__ = ["RETRYABLE_STATUSES", "any_exception", "http_status", "is_transient"]

# 408, 425 and 429 ask for another try; 500, 502, 503 and 504 are failures of a server or a gateway, often
# of one instance among several. Other statuses describe the request itself. RFC 9110, 15.5 and 15.6;
# RFC 8470, 5.2 (425); RFC 6585, 4 (429).
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_TRANSIENT_TYPES = (ConnectionError, TimeoutError, BackendUnavailable)

_TRANSIENT: dict[str, frozenset[str]] = {
    "httpx": frozenset({"TransportError"}),
    "httpx2": frozenset({"TransportError"}),
    "httpcore": frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError"}),
    "requests": frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError"}),
    "urllib3": frozenset({"TimeoutError", "ProtocolError", "NewConnectionError", "MaxRetryError"}),
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "redis": frozenset({"ConnectionError", "TimeoutError", "BusyLoadingError", "TryAgainError"}),
    "valkey": frozenset({"ConnectionError", "TimeoutError", "BusyLoadingError", "TryAgainError"}),
    "psycopg": frozenset({"OperationalError"}),
    "asyncpg": frozenset(
        {"PostgresConnectionError", "CannotConnectNowError", "TooManyConnectionsError", "TransactionRollbackError"}
    ),
}

# Subclasses of the above that the next attempt would meet again.
_LASTING: dict[str, frozenset[str]] = {
    "httpx": frozenset({"UnsupportedProtocol", "LocalProtocolError"}),
    "httpx2": frozenset({"UnsupportedProtocol", "LocalProtocolError"}),
    "requests": frozenset({"SSLError", "InvalidProxyURL"}),
    "urllib3": frozenset({"LocationParseError"}),
    "aiohttp": frozenset({"ClientConnectorSSLError", "ClientConnectorCertificateError", "InvalidURL"}),
    "redis": frozenset({"AuthenticationError", "AuthorizationError"}),
    "valkey": frozenset({"AuthenticationError", "AuthorizationError"}),
    "psycopg": frozenset({"InvalidAuthorizationSpecification", "InvalidPassword", "DiskFull", "QueryCanceled"}),
}

# psycopg gives no sqlstate to what a server or libpq answers before the session has begun, so only the
# text tells a wrong password from a server that is starting. Where the server speaks another language than
# English the text is not recognised, and the error counts as transient.
_LASTING_LOGINS = (
    *("authentication failed", "no password supplied", "pg_hba.conf", "not permitted to log in"),
    *("does not exist", "permission denied", "does not support SSL", "certificate verify failed"),
)


def is_transient(error: Exception) -> bool:
    """Return whether `error` is one that another attempt may well not meet: the default of `@retry`.

    True for: `ConnectionError`, `TimeoutError` (so holdfast's `TimedOut` too), `BackendUnavailable`; the
    connection and timeout errors of httpx, requests, urllib3, urllib, aiohttp, redis, valkey, psycopg and
    asyncpg; HTTP errors with status 408, 425, 429, 500, 502, 503 or 504. False for all others, so for every
    `Refused` and for `OutcomeUnknown`.
    """
    if isinstance(error, _TRANSIENT_TYPES):
        return True
    status = http_status(error)
    if status is not None:
        return status in RETRYABLE_STATUSES
    if _comes_from("urllib.error", error):
        # urlopen wraps what the socket raised.
        reason = getattr(error, "reason", None)
        return isinstance(reason, Exception) and is_transient(reason)
    return _is_transient_type(type(error)) and not _is_lasting_login(error)


def any_exception(error: Exception) -> bool:
    """Return True: the explicit way to say `@retry(on=any_exception)`.

    Only for a call whose every failure may pass: it also repeats programming errors and refused
    logins. Refusals of holdfast's own policies and wrong configuration stay excluded.
    """
    return not isinstance(error, (Refused, ConfigurationError))


def http_status(error: Exception) -> int | None:
    """Return the HTTP status an error of an HTTP client carries, or None.

    Looks at `error.response.status_code` (httpx, requests), at `error.status` where aiohttp puts it, and at
    `error.code` of urllib.
    """
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and type(error).__module__.startswith("aiohttp"):
        status = getattr(error, "status", None)
    elif status is None and _comes_from("urllib.error", error):
        status = getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _is_transient_type(kind: type[Exception]) -> bool:
    lineage = [(each.__module__.partition(".")[0], each.__name__) for each in kind.__mro__]
    if any(name in _LASTING.get(package, ()) for package, name in lineage):
        return False
    return any(name in _TRANSIENT.get(package, ()) for package, name in lineage)


def _comes_from(module: str, error: Exception) -> bool:
    return any(each.__module__ == module for each in type(error).__mro__)


def _is_lasting_login(error: Exception) -> bool:
    if not _comes_from("psycopg", error) or getattr(error, "sqlstate", None) is not None:
        return False
    text = str(error)
    return any(phrase in text for phrase in _LASTING_LOGINS)
