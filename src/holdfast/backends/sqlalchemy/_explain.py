"""What an error of SQLite means when it comes through SQLAlchemy."""

from __future__ import annotations

import sqlite3

from holdfast.backends._links import Phase
from holdfast.backends.sql import Statement
from holdfast.backends.sqlite._errors import fail
from holdfast.errors import HoldfastError

__all__ = ["explain_sqlite"]


def explain_sqlite(error: Exception, *, phase: Phase, lost: bool, statement: Statement, place: str) -> Exception:
    """Return what to raise in the place of `error`: `error` itself when it is the caller's own."""
    del lost
    original = getattr(error, "orig", None) or error
    if not isinstance(original, sqlite3.Error):
        return error
    try:
        fail(original, place, statement.name, wrote=phase.perhaps_done)
    except HoldfastError as explained:
        return explained
    except sqlite3.Error:
        return error
