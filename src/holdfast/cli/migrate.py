"""`holdfast migrate URL`: make the tables of every pattern, or bring them up to date.

`--print` shows the same as plain SQL instead, for review or for another migration tool, and connects
to nothing. Which patterns have tables is read from the folders, so no pattern is imported.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from holdfast.errors import BackendError, ConfigurationError

__all__ = ["add_to"]

_CONNECT_SECONDS = 30.0
_SCHEMES = {"sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres"}


def add_to(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "migrate",
        help="make the tables, or bring them up to date",
        description="Make the tables of every pattern, or bring them up to date; safe to run twice, or by two.",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    parser.add_argument("--print", action="store_true", help="print the SQL instead; nothing is connected to")
    parser.add_argument("--dialect", choices=("postgres", "sqlite"), help="for --print without a URL")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Carry out the command: 0 when the tables are up to date, 1 when the database is away.

    Raises:
        ConfigurationError: the arguments do not fit, or the database is newer than this release.
    """
    if options.url is None and not (options.print and options.dialect):
        message = "URL is missing: give sqlite:///FILE or postgresql://..., or --print with --dialect"
        raise ConfigurationError(message)
    dialect = _dialect(options.url, options.dialect)
    if options.print:
        from holdfast.backends.migrations import pattern_folders, script

        print(script(pattern_folders(), dialect), end="")
        return 0
    try:
        return _apply(options.url)
    except BackendError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return 1


def _apply(url: str) -> int:
    from holdfast.backends import connect
    from holdfast.backends.migrations import migrate

    with connect(url, timeout=_CONNECT_SECONDS) as backend:
        applied = migrate(backend)
        for pattern, version in applied:
            print(f"{pattern}: version {version}")
        print(f"{backend.place}: {f'{len(applied)} applied' if applied else 'up to date'}")
    return 0


def _dialect(url: str | None, dialect: str | None) -> str:
    scheme = (url or "").partition("://")[0].lower()
    if url is None and dialect is not None:
        return dialect
    if scheme not in _SCHEMES:
        message = "URL is not legal: give sqlite:///FILE or postgresql://..., or --print with --dialect"
        raise ConfigurationError(message)
    if dialect not in {None, _SCHEMES[scheme]}:
        message = f"--dialect {dialect} does not fit a URL that begins with {scheme}://"
        raise ConfigurationError(message)
    return _SCHEMES[scheme]
