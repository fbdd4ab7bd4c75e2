"""What an error of PostgreSQL means, told by its SQLSTATE and by when it came.

The driver does not matter: psycopg's, asyncpg's and SQLAlchemy's errors all lead to a SQLSTATE, which
the server sends, or to none, which means that the client noticed something by itself.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from holdfast.backends._links import Conflict, Phase
from holdfast.backends.sql import Statement
from holdfast.errors import BackendUnavailable, ConfigurationError, OutcomeUnknown

__all__ = ["explain"]

_CONFLICT = {"40001", "40P01"}  # serialization failure, deadlock: rolled back by the server
_MISSING = {"42P01", "42703", "3F000"}  # undefined table, undefined column, invalid schema
# The server went away on purpose or crashed: like a lost connection.
_SHUT_DOWN = {"57P01", "57P02"}
# The server refused or undid the work: certainly not applied.
_REFUSED = {
    "57P03",  # cannot connect now: it is starting up
    "57014",  # canceled, by a statement timeout or an administrator
    "25006",  # read only: it is a standby
    "25P03",  # idle in transaction for too long
    "25P04",  # transaction timeout
    "55P03",  # lock timeout
}
_REFUSED_CLASSES = {"08", "28", "53", "58"}  # connection, authorization, resources, system


def explain(error: Exception, *, phase: Phase, lost: bool, statement: Statement, place: str) -> Exception:
    """Return what to raise in the place of `error`: `error` itself when it is the caller's own."""
    state = _state(error)
    if lost or state in _SHUT_DOWN:
        return _lost(error, phase, statement, place)
    facts = {"backend": place, "operation": statement.name}
    if state in _CONFLICT:
        message = f"{statement.name} on {place}: gave way to another transaction and was rolled back"
        return Conflict(message, joined=phase is Phase.JOINED, **facts)
    if state in _MISSING and statement.schema is not None:
        message = (
            f"{statement.name} on {place}: the tables of {statement.schema.name} are missing or old "
            f"({_first_line(error)}); run: holdfast migrate URL"
        )
        return ConfigurationError(message, **facts)
    if state in _REFUSED or state[:2] in _REFUSED_CLASSES:
        message = f"{statement.name} on {place}: {_first_line(error)}"
        return BackendUnavailable(message, **facts)
    return error


def _lost(error: Exception, phase: Phase, statement: Statement, place: str) -> Exception:
    what = "no answer in time" if isinstance(error, TimeoutError) else "connection lost"
    detail = f": {line}" if (line := _first_line(error)) else ""
    facts = {"backend": place, "operation": statement.name}
    if phase.perhaps_done:
        message = f"{statement.name} on {place}: {what} during {phase.value}, so it may have been done{detail}"
        return OutcomeUnknown(message, **facts)
    message = f"{statement.name} on {place}: {what} during {phase.value}, so nothing was done{detail}"
    return BackendUnavailable(message, **facts)


def _state(error: BaseException) -> str:
    # SQLAlchemy wraps the driver's error in `orig`, which for asyncpg wraps another one.
    original = getattr(error, "orig", None) or error
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or ""


def _first_line(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().partition("\n")[0]
