"""How a statement is spelled for the driver below SQLAlchemy, and what that driver can tell.

Statements go to the driver as they are (`exec_driver_sql`): SQLAlchemy still sees them (events, echo,
its own errors), but does not parse them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.backends.sql import Statement
from holdfast.errors import ConfigurationError

__all__ = ["alive", "dialect_of", "drop", "spelled"]

_DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}


def dialect_of(bind: Any) -> str:
    """Return holdfast's name of the database below an engine or a connection.

    Raises:
        ConfigurationError: it is another database.
    """
    name = bind.dialect.name
    if name not in _DIALECTS:
        message = f"a SQLAlchemy client for {name} is not legal: holdfast runs on postgresql and sqlite"
        raise ConfigurationError(message)
    return _DIALECTS[name]


def spelled(statement: Statement, parameters: Mapping[str, Any], dialect: Any) -> tuple[str, Any]:
    """Return the text and the parameters as the driver wants them."""
    if dialect.name == "sqlite":  # sqlite3 knows :name by itself, whatever SQLAlchemy uses
        return statement.sql, {name: parameters[name] for name in statement.names}
    if dialect.driver == "asyncpg":
        return statement.numbered, tuple(statement.positional(parameters))
    return statement.percent, {name: parameters[name] for name in statement.names}


def alive(driver: Any) -> bool:
    """Tell whether a driver's connection can still be used."""
    if driver is None:
        return False
    if hasattr(driver, "is_closed"):  # asyncpg
        return not driver.is_closed()
    return not getattr(driver, "closed", False)  # psycopg; sqlite3 has no server to lose


def drop(driver: Any) -> None:
    """Break the connection off; SQLAlchemy notices at the next use and replaces it."""
    if hasattr(driver, "terminate"):  # asyncpg
        driver.terminate()
    elif hasattr(driver, "pgconn"):  # psycopg
        driver.pgconn.finish()
