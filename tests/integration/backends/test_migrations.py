"""Tables come into a database once, whoever brings them, and stay as new as the code."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast.backends
from holdfast.backends.migrations import LOCK_NUMBER, migrate, pattern_folders, script
from holdfast.backends.sql import Query, Statement
from holdfast.cli import main
from holdfast.errors import ConfigurationError

ONE = "-- version: 1\ncreate table holdfast_note (text text not null);\n"
TWO = """
-- version: 2
-- A comment; with a semicolon.
alter table holdfast_note add column author text not null default 'a;b';
create index holdfast_note_author on holdfast_note (author);
"""
BROKEN = "\n-- version: 3\ncreate table holdfast_half (a text);\ncreate tabel holdfast_other (a text);\n"


class Schema:
    """A pattern's folder whose schema a test writes."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "notes"
        self.folder.mkdir()

    def write(self, text: str) -> None:
        from holdfast.backends.migrations import parts

        parts.cache_clear()  # in life, a schema does not change while a program runs
        for dialect in ("sqlite", "postgres"):
            (self.folder / f"schema.{dialect}.sql").write_text(text)


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    made = Schema(tmp_path)
    made.write(ONE)
    return made


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def backend(url: str) -> Iterator[Any]:
    with holdfast.backends.connect(url) as opened:
        yield opened


def test_what_is_there_is_not_made_again(backend: Any, schema: Schema) -> None:
    assert migrate(backend, [schema.folder]) == [("notes", 1)]
    assert migrate(backend, [schema.folder]) == []


def test_a_database_is_upgraded_from_any_version_and_keeps_its_rows(backend: Any, schema: Schema) -> None:
    migrate(backend, [schema.folder])
    backend.execute("insert into holdfast_note (text) values ('kept')")
    schema.write(ONE + TWO)
    assert migrate(backend, [schema.folder]) == [("notes", 2)]
    assert backend.execute("select text, author from holdfast_note") == [("kept", "a;b")]
    assert backend.execute("select pattern, version from holdfast_migration order by version") == [
        ("notes", 1),
        ("notes", 2),
    ]


def test_an_upgrade_that_fails_changes_nothing(backend: Any, schema: Schema) -> None:
    schema.write(ONE + TWO + BROKEN)
    with pytest.raises(Exception, match="tabel"):
        migrate(backend, [schema.folder])
    schema.write(ONE + TWO)
    assert migrate(backend, [schema.folder]) == [("notes", 1), ("notes", 2)]


def test_a_database_that_is_newer_than_the_code_is_refused(backend: Any, schema: Schema) -> None:
    schema.write(ONE + TWO)
    migrate(backend, [schema.folder])
    schema.write(ONE)
    with pytest.raises(ConfigurationError, match=r"has version 2 .* knows 1: upgrade holdfast"):
        migrate(backend, [schema.folder])


def test_many_at_once_do_the_work_once(url: str, schema: Schema) -> None:
    applied: list[Any] = []

    def run() -> None:
        with holdfast.backends.connect(url) as backend:
            applied.append(migrate(backend, [schema.folder]))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[]] * 5 + [[("notes", 1)]]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_many_at_once_do_the_work_once_at_every_isolation_level(postgres_url: str, schema: Schema, level: str) -> None:
    import psycopg

    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"alter database \"{name}\" set default_transaction_isolation = '{level}'".encode())
        try:
            _migrated_once_by_two(server, postgres_url, schema)
        finally:
            server.execute(f'alter database "{name}" reset default_transaction_isolation'.encode())


def _migrated_once_by_two(server: Any, url: str, schema: Schema) -> None:
    applied: list[Any] = []

    def run() -> None:
        with holdfast.backends.connect(url) as backend:
            applied.append(migrate(backend, [schema.folder]))

    threads = [threading.Thread(target=run) for _ in range(2)]
    server.execute(f"select pg_advisory_lock({LOCK_NUMBER})")
    for thread in threads:
        thread.start()
    waiting = (
        "select count(*) from pg_locks join pg_database on pg_database.oid = database "
        "where locktype = 'advisory' and not granted and datname = current_database()"
    )
    while server.execute(waiting).fetchone()[0] < len(threads):
        time.sleep(0.005)
    server.execute("select pg_advisory_unlock_all()")
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[], [("notes", 1)]]


async def test_an_async_backend_migrates_too(url: str, schema: Schema) -> None:
    async with holdfast.backends.connect_async(url) as backend:
        assert await migrate(backend, [schema.folder]) == [("notes", 1)]


def test_the_printed_script_makes_the_same_tables(backend: Any, url: str, schema: Schema) -> None:
    schema.write(ONE + TWO)
    text = script([schema.folder], backend.dialect)
    assert "A comment; with a semicolon." in text
    if backend.dialect == "sqlite":
        connection = sqlite3.connect(backend.database.path)
        connection.executescript(text)
        connection.close()
    else:
        import psycopg

        with psycopg.connect(url, autocommit=True) as server:
            server.execute(text.encode())
    assert migrate(backend, [schema.folder]) == []


def test_sqlite_upgrades_an_old_file_when_a_column_is_missing(tmp_path: Path, schema: Schema) -> None:
    note = Statement("note", "insert into holdfast_note (text, author) values ('x', 'y')", schema.folder)
    with holdfast.backends.connect(f"sqlite:///{tmp_path / 'test.db'}") as opened:
        backend: Any = opened
        migrate(backend, [schema.folder])
        schema.write(ONE + TWO)
        backend.query(Query(note, {}))
        assert backend.execute("select author from holdfast_note") == [("y",)]


def test_versions_are_numbered_from_one(backend: Any, schema: Schema) -> None:
    schema.write(ONE.replace("1", "2"))
    with pytest.raises(ConfigurationError, match=r"numbers its versions \[2\]"):
        migrate(backend, [schema.folder])


# -- The command line --------------------------------------------------------------------------------------------------

PATTERNS = {folder.name for folder in pattern_folders()}


def test_the_command_makes_all_tables_and_can_be_repeated(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", url]) == 0
    assert {f"{pattern}: version 1" for pattern in PATTERNS} <= set(capsys.readouterr().out.splitlines())
    assert main(["migrate", url]) == 0
    assert capsys.readouterr().out.endswith("up to date\n")


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_command_prints_the_sql_and_connects_to_nothing(dialect: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--print", "--dialect", dialect]) == 0
    printed = capsys.readouterr().out
    scheme = "sqlite:///nowhere/x" if dialect == "sqlite" else "postgresql://127.0.0.1:1/x"
    assert main(["migrate", "--print", scheme]) == 0
    assert capsys.readouterr().out == printed
    for pattern in PATTERNS:
        assert f"-- {pattern}, version 1" in printed


@pytest.mark.parametrize(
    "arguments",
    [[], ["--print"], ["--dialect", "sqlite"], ["redis://x"], ["memory://"], ["sqlite:///x", "--dialect", "postgres"]],
)
def test_the_command_refuses_what_does_not_fit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", *arguments]) == 2
    assert capsys.readouterr().err.startswith("holdfast: ")


def test_the_command_needs_no_driver_to_print() -> None:
    blocked = "import sys; sys.modules.update(psycopg=None, asyncpg=None, sqlalchemy=None); "
    run = "from holdfast.cli import main; sys.exit(main(['migrate', '--print', '--dialect', 'postgres']))"
    done = subprocess.run([sys.executable, "-c", blocked + run], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "create table" in done.stdout
