"""SQLAlchemy's AUTOCOMMIT, in which `begin()`, `commit()` and `rollback()` do nothing.

An effect and its idempotency key would not be committed together there, and a statement would be
reported as rolled back that has long been committed.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import ConfigurationError

__all__ = ["options_for", "refuse_autocommit"]

_AUTOCOMMIT = "AUTOCOMMIT"
# The one that has transactions and is nearest: the server's usual one, and SQLite's only one.
_LEVELS = {"postgresql": "READ COMMITTED", "sqlite": "SERIALIZABLE"}


def options_for(engine: Any) -> dict[str, str]:
    """Return the execution options with which connections of `engine` have transactions; most need none."""
    blocking = getattr(engine, "sync_engine", engine)
    return {"isolation_level": _LEVELS[blocking.dialect.name]} if _asked_for(blocking) else {}


def refuse_autocommit(connection: Any) -> None:
    """Refuse a connection without transactions.

    Raises:
        ConfigurationError: it is in AUTOCOMMIT, or its driver commits by itself.
    """
    # Some drivers have no such attribute, and that of sqlite3 may be a number.
    by_driver = getattr(connection.connection.dbapi_connection, "autocommit", False) is True
    if by_driver or _asked_for(connection):
        level = _LEVELS[connection.dialect.name]
        message = (
            "a SQLAlchemy client in autocommit mode is not legal, because what belongs together would not be committed "
            f'together: give one with transactions, such as connection.execution_options(isolation_level="{level}"), '
            "or the engine"
        )
        raise ConfigurationError(message)


def _asked_for(bind: Any) -> bool:
    # What `Connection._is_autocommit_isolation` does, which has no public name either.
    default = getattr(bind.dialect, "_on_connect_isolation_level", None)
    return bool((bind.get_execution_options().get("isolation_level") or default) == _AUTOCOMMIT)
