"""The tables of the patterns, and how they come into a database and stay up to date.

A pattern's folder holds `schema.sqlite.sql` and `schema.postgres.sql`. Each is a list of parts, and a
part is never changed once it was released; what comes later is another part:

    -- version: 1
    create table holdfast_lock (...);

    -- version: 2
    alter table holdfast_lock add column ...;

A statement ends at a semicolon outside of quotes, dollar quotes and comments, so SQLite's triggers, whose
bodies hold bare semicolons, have no place here.

The table `holdfast_migration` says which parts a database has. Everything that is missing is applied
in one transaction that nobody else can be in at the same time, so it is safe to migrate twice, by two
at once, and to be killed in the middle: all of it is there afterwards, or none.

SQLite makes its tables itself when they are first missing. PostgreSQL is migrated by
`holdfast migrate URL`, because the right to make tables is seldom the service's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, overload

from holdfast.backends._backend import Backend
from holdfast.backends.sql import Query, Row, Statement, split
from holdfast.backends.transactions import SqlAsync, SqlSync
from holdfast.errors import ConfigurationError
from holdfast.operations import Async, Steps, Sync

__all__ = ["DIALECTS", "Part", "migrate", "parts", "pattern_folders", "script", "upgrade", "upgrade_with"]

# Where the patterns are, of which this floor knows nothing but their tables.
PACKAGE = Path(__file__).parents[1]
DIALECTS = ("sqlite", "postgres")
Applied = list[tuple[str, int]]
_VERSION = re.compile(r"^-- version: (\d+)\s*$", re.MULTILINE)

# "holdfast" in ASCII: the number of the advisory lock that migrations of one database queue for.
LOCK_NUMBER = int.from_bytes(b"holdfast"[1:], "big")
_LOCK = Statement("migration lock", f"select pg_advisory_xact_lock({LOCK_NUMBER})", writes=True)
_WALL = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgres": "extract(epoch from clock_timestamp())",
}
_CREATE = Statement(
    "migration table",
    "create table if not exists holdfast_migration ("
    "pattern text not null, version bigint not null, applied_at double precision not null, "
    "primary key (pattern, version))",
)
_NEWEST = Statement(
    "migration version",
    "select coalesce(max(version), 0) from holdfast_migration where pattern = :pattern",
)
_NOTE = {
    dialect: Statement(
        "migration note",
        "insert into holdfast_migration (pattern, version, applied_at) "  # noqa: S608 - constants only
        f"values (:pattern, :version, {wall}) on conflict do nothing",
    )
    for dialect, wall in _WALL.items()
}


class Part(NamedTuple):
    """One version of one pattern's tables."""

    pattern: str
    version: int
    statements: tuple[Statement, ...]


@lru_cache(maxsize=256)
def parts(folder: Path, dialect: str) -> tuple[Part, ...]:
    """Read the parts of a pattern's schema, oldest first; none when it has no tables on `dialect`."""
    file = folder / f"schema.{dialect}.sql"
    if not file.exists():
        return ()
    _, *texts = _VERSION.split(file.read_text(encoding="utf-8"))
    versions = [int(version) for version in texts[::2]]
    if versions != list(range(1, len(versions) + 1)):
        message = f"{file.name} of {folder.name} numbers its versions {versions}: give 1, 2, 3..."
        raise ConfigurationError(message)
    return tuple(
        Part(folder.name, version, tuple(Statement("migration", sql) for sql in split(text)))
        for version, text in zip(versions, texts[1::2], strict=True)
    )


def pattern_folders(root: Path = PACKAGE) -> list[Path]:
    """List the pattern folders below `root` (holdfast's own) that have tables."""
    return sorted({file.parent for file in root.rglob("schema.*.sql")})


@overload
def migrate(backend: Backend[Sync], folders: Iterable[Path] | None = ...) -> Applied: ...
@overload
def migrate(backend: Backend[Async], folders: Iterable[Path] | None = ...) -> Coroutine[Any, Any, Applied]: ...
def migrate(backend: Any, folders: Iterable[Path] | None = None) -> Any:
    """Bring the tables of `folders` up to date; return what was applied as (pattern, version).

    Without `folders` that is the tables of all of holdfast's patterns.

    All or nothing, and safe to run by several at once. On an async backend await the result.

    Raises:
        ConfigurationError: the database has a version that this release does not know, or the backend
            is none of SQL.
        BackendUnavailable: nothing was applied.
        OutcomeUnknown: perhaps all was applied; run it again to find out.
    """
    if not isinstance(backend, (SqlSync, SqlAsync)):
        message = f"{backend!r} has no tables: give a backend on SQLite or PostgreSQL"
        raise ConfigurationError(message)
    wanted = pattern_folders() if folders is None else list(folders)
    return backend.atomic(lambda: upgrade(wanted, backend.dialect))


def upgrade(folders: Sequence[Path], dialect: str) -> Steps[Applied]:
    """Apply every part that is missing. To be carried out in one transaction."""
    if dialect == "postgres":
        yield from Query[object](_LOCK, {})
    yield from Query[object](_CREATE, {})
    applied: Applied = []
    for folder in folders:
        applied += yield from _upgrade_one(folder, dialect)
    return applied


def _upgrade_one(folder: Path, dialect: str) -> Steps[Applied]:
    known = parts(folder, dialect)
    newest = yield from Query(_NEWEST, {"pattern": folder.name}, _number)
    if newest > len(known):
        message = (
            f"the database has version {newest} of the tables of {folder.name}, this holdfast knows "
            f"{len(known)}: upgrade holdfast (nothing was changed)"
        )
        raise ConfigurationError(message, pattern=folder.name, version=newest)
    for part in known[newest:]:
        # The note comes first: above read committed, PostgreSQL shows what was there before the wait for the
        # lock. A note that another has made meanwhile is then a serialization failure, and all begins again.
        yield from Query[object](_NOTE[dialect], {"pattern": part.pattern, "version": part.version})
        for statement in part.statements:
            yield from Query[object](statement, {})
    return [(part.pattern, part.version) for part in known[newest:]]


def _number(rows: Sequence[Row]) -> int:
    return int(rows[0][0])


def upgrade_with(fetch: Callable[[Statement, Mapping[str, Any]], Sequence[Row]], folder: Path, dialect: str) -> None:
    """Apply what is missing of one folder, within the transaction that `fetch` carries out statements in."""
    steps = upgrade([folder], dialect)
    try:
        request = next(steps)
        while True:
            assert isinstance(request, Query)
            rows = fetch(request.statement, request.parameters)
            request = steps.send(request.decode(rows))
    except StopIteration:
        return


def script(folders: Iterable[Path], dialect: str) -> str:
    """Return everything as plain SQL, for review or for another migration tool. It connects to nothing.

    Meant for an empty database: it holds all parts, whether a database has them already or not.
    """
    lines = ["begin;", f"{_CREATE.sql};"]
    for part in (part for folder in folders for part in parts(folder, dialect)):
        lines += ["", f"-- {part.pattern}, version {part.version}"]
        lines += [f"{statement.sql};" for statement in part.statements]
        values = {"pattern": f"'{part.pattern}'", "version": str(part.version)}
        lines.append(f"{_literal(_NOTE[dialect].sql, values)};")
    return "\n".join([*lines, "", "commit;", ""])


def _literal(sql: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        sql = sql.replace(f":{name}", value)
    return sql
