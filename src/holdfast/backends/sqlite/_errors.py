"""What went wrong in SQLite, said in the words of holdfast.

SQLite runs in this process, so nearly every failure is certain: what did not return was rolled back.
The exception is a write that failed in the device (SQLITE_IOERR), which may have reached the file.
"""

from __future__ import annotations

import re
import sqlite3
from typing import NoReturn

from holdfast.backends.sql import Statement
from holdfast.errors import BackendUnavailable, ConfigurationError, OutcomeUnknown

__all__ = ["ended", "fail", "is_busy", "lacks_function", "lacks_tables", "waited_too_long", "waits_for_itself"]

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_MISSING_TABLE = re.compile(r"no such table: (\w+\.)?holdfast_|no such column|has no column named")


def _primary(error: BaseException) -> int:
    # Extended codes (SQLITE_BUSY_SNAPSHOT...) carry their primary code in the low byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Tell whether another connection has the lock, so that waiting helps."""
    return isinstance(error, sqlite3.OperationalError) and _primary(error) in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


def lacks_tables(error: BaseException, statement: Statement) -> bool:
    """Tell whether the tables that `statement` needs are missing or old, so that migrating helps."""
    return (
        statement.schema is not None
        and isinstance(error, sqlite3.OperationalError)
        and _MISSING_TABLE.search(str(error)) is not None
    )


def lacks_function(error: BaseException) -> bool:
    """Tell whether holdfast's own functions are missing (a connection that the user opened)."""
    return isinstance(error, sqlite3.OperationalError) and "no such function: holdfast_" in str(error)


def fail(error: sqlite3.Error, place: str, operation: str, *, wrote: bool = False) -> NoReturn:
    """Raise `error` in holdfast's words, or as it is when it is the caller's own (a constraint, a typo).

    Args:
        error: what SQLite raised.
        place: the backend's name.
        operation: what was to be done.
        wrote: it may have been on its way to the disk: an autocommitted write, or a commit.
    """
    code = _primary(error)
    if code not in _UNAVAILABLE:
        raise error
    if wrote and code == sqlite3.SQLITE_IOERR:
        message = f"{operation} on {place} failed in the device and may have been stored: {error}"
        raise OutcomeUnknown(message, backend=place, operation=operation) from error
    raise BackendUnavailable(f"{operation} on {place}: {error}", backend=place, operation=operation) from error


def waited_too_long(place: str, operation: str, timeout: float) -> BackendUnavailable:
    """Return the error for a write lock that others held for the whole `timeout`."""
    message = f"{operation} on {place}: others held the write lock for {timeout:g} s; nothing was done"
    return BackendUnavailable(message, backend=place, operation=operation)


def waits_for_itself(place: str, operation: str) -> ConfigurationError:
    """Return the error for waiting for a lock that the caller itself holds."""
    message = (
        f"{operation} on {place}: this thread or task has a transaction open on the same file, so it would wait "
        "for itself: use the backend that transaction() or Run(join=True) hands out"
    )
    return ConfigurationError(message)


def ended() -> sqlite3.ProgrammingError:
    """Return the error for using a transaction that is over."""
    return sqlite3.ProgrammingError("this transaction has ended; a joined backend lives as long as its block")
