"""Every exception of holdfast, in one tree.

    HoldfastError                      code, title, status; facts as attributes
    ├── ConfigurationError (ValueError)     a wrong argument, found before anything was done
    │   ├── InvalidKey                      400: an empty, over-long or unprintable key
    │   └── MissingExtra (ImportError)      the driver is not installed; names the install line
    ├── Refused                             retry_after; a policy said no and nothing was done
    │   ├── RateLimited 429
    │   ├── CircuitOpen 503
    │   ├── BulkheadFull 503
    │   └── LockNotAcquired 409
    ├── TimedOut (TimeoutError) 504         the user's own function took too long
    ├── LockLost 409                        the lease ended while its holder worked
    ├── StaleToken 409                      the resource has seen a newer fencing token
    ├── IdempotencyError
    │   ├── KeyMissing 400
    │   ├── KeyInProgress 409               the first request with this key still runs
    │   └── KeyReused 422                   same key, another payload
    ├── ConcurrencyConflict 409             the stream has moved past the expected version
    ├── MessageRefused 422                  a broker will never take this message
    └── BackendError 503                    backend, operation
        ├── BackendUnavailable              certainly not applied: safe to try again
        └── OutcomeUnknown                  perhaps applied: ask before trying again

A refusal is a value wherever a value has somewhere to go; these are raised by the spellings that
have nowhere to put one (`with`, decorators, middleware). `status` is only a hint: this module knows
no web framework, `holdfast.web.problem` turns an error into an HTTP response (RFC 9457).
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "BulkheadFull",
    "CircuitOpen",
    "ConcurrencyConflict",
    "ConfigurationError",
    "HoldfastError",
    "IdempotencyError",
    "InvalidKey",
    "KeyInProgress",
    "KeyMissing",
    "KeyReused",
    "LockLost",
    "LockNotAcquired",
    "MessageRefused",
    "MissingExtra",
    "OutcomeUnknown",
    "RateLimited",
    "Refused",
    "StaleToken",
    "TimedOut",
]


class HoldfastError(Exception):
    """The root: catching it catches everything that holdfast itself raises.

    Facts passed by keyword become attributes and survive pickling.
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "holdfast error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling `__init__`, whose required keywords differ from class to class."""
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def facts(self) -> dict[str, object]:
        """The public attributes of this error, for problem documents and logs."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def _rebuild(kind: type[HoldfastError], args: tuple[Any, ...], facts: dict[str, Any]) -> HoldfastError:
    error = kind.__new__(kind, *args)
    error.args = args  # OSError, below TimedOut, leaves that to the `__init__` that is not called here
    error.__dict__.update(facts)
    return error


class ConfigurationError(HoldfastError, ValueError):
    """An argument is wrong; the message names the parameter, the value and what is legal."""

    code = "configuration"
    title = "Wrong configuration"


class InvalidKey(ConfigurationError):
    """A key is empty, longer than 255 characters, or holds control characters."""

    code = "invalid-key"
    title = "Invalid key"
    status = 400


class MissingExtra(ConfigurationError, ImportError):
    """A driver is not installed; the message holds the `pip install` line."""

    code = "missing-extra"
    title = "Optional dependency is not installed"


class Refused(HoldfastError):
    """A policy said no before anything was done."""

    code = "refused"
    title = "Refused"
    status = 503
    retry_after: float | None

    def __init__(self, message: str, *, retry_after: float | None = None, **facts: object) -> None:
        """Remember `retry_after`: seconds until another try can succeed, None when unknown."""
        super().__init__(message, retry_after=retry_after, **facts)


class RateLimited(Refused):
    """The caller's allowance is used up."""

    code = "rate-limited"
    title = "Too many requests"
    status = 429


class CircuitOpen(Refused):
    """The circuit breaker is open, so the dependency was not called."""

    code = "circuit-open"
    title = "Dependency is unavailable"


class BulkheadFull(Refused):
    """Every slot and every place in the queue is taken."""

    code = "bulkhead-full"
    title = "Too many concurrent calls"


class LockNotAcquired(Refused):
    """Somebody else held the lock for the whole waiting time."""

    code = "lock-not-acquired"
    title = "Locked"
    status = 409


class TimedOut(HoldfastError, TimeoutError):
    """The user's own function took longer than its `timeout`; whether it had an effect is unknown."""

    code = "timed-out"
    title = "Operation took too long"
    status = 504


class LockLost(HoldfastError):
    """The lease ended while its holder was still working: another may hold the lock now."""

    code = "lock-lost"
    title = "Lock lost"
    status = 409


class StaleToken(HoldfastError):
    """The resource has already accepted a newer fencing token than the one presented."""

    code = "stale-token"
    title = "Stale fencing token"
    status = 409


class IdempotencyError(HoldfastError):
    """A request and its idempotency key do not fit together."""

    code = "idempotency"
    title = "Idempotency error"
    status = 409


class KeyMissing(IdempotencyError):
    """The operation requires an idempotency key and none was given."""

    code = "idempotency-key-missing"
    title = "Idempotency-Key is missing"
    status = 400


class KeyInProgress(IdempotencyError):
    """The first request with this key has not finished yet."""

    code = "idempotency-key-in-progress"
    title = "A request with this Idempotency-Key is in progress"
    retry_after: float | None = None


class KeyReused(IdempotencyError):
    """The key was used before with another payload."""

    code = "idempotency-key-reused"
    title = "Idempotency-Key was used with another payload"
    status = 422


class ConcurrencyConflict(HoldfastError):
    """The stream is not at the version the writer expected: load it again and decide again."""

    code = "concurrency-conflict"
    title = "Concurrent modification"
    status = 409


class MessageRefused(HoldfastError):
    """The broker will never take this message: too large, no such topic. Raised by `Broker.publish`."""

    code = "message-refused"
    title = "Message refused by the broker"
    status = 422


class BackendError(HoldfastError):
    """A backend could not carry out a request. Never holds a password."""

    code = "backend-error"
    title = "Backend error"
    status = 503
    backend: str
    operation: str

    def __init__(self, message: str, *, backend: str, operation: str, **facts: object) -> None:
        """Name the `backend` (its dialect and place, without secrets) and the `operation` that failed."""
        super().__init__(message, backend=backend, operation=operation, **facts)


class BackendUnavailable(BackendError):
    """The request was certainly not applied: it can be repeated safely."""

    code = "backend-unavailable"
    title = "Backend is unavailable"


class OutcomeUnknown(BackendError):
    """The request may have been applied: ask the backend before repeating it."""

    code = "outcome-unknown"
    title = "Outcome is unknown"
