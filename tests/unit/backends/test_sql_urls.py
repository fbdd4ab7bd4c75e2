"""URLs of SQL backends, missing drivers, and the meaning of PostgreSQL's error codes."""

import subprocess
import sys
from pathlib import Path

import pytest

import holdfast.backends
from holdfast.backends._links import Conflict, Phase
from holdfast.backends.postgres._address import parse
from holdfast.backends.postgres._errors import explain
from holdfast.backends.sql import Statement
from holdfast.backends.sqlite import SqliteSync
from holdfast.errors import BackendUnavailable, ConfigurationError, OutcomeUnknown


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:////var/absolute.db", "/var/absolute.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite://", ":memory:"),
    ],
)
def test_sqlite_urls(url: str, path: str) -> None:
    backend = holdfast.backends.connect(url)
    assert isinstance(backend, SqliteSync)
    assert backend.database.path == path


@pytest.mark.parametrize("url", ["sqlite://host/file.db", "sqlite:///file.db?mode=ro", "sqlite:///folder/"])
def test_other_sqlite_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///relative"):
        holdfast.backends.connect(url)


def test_a_postgres_url_is_taken_apart() -> None:
    address = parse("postgres://me:se%40cret@a:1,b:2/db?sslmode=require&max_connections=3&prepare_threshold=none")
    assert address.dsn == "postgresql://me:se%40cret@a:1,b:2/db?sslmode=require"
    assert address.place == "postgresql://me@a:1,b:2/db"
    assert (address.max_connections, address.prepare_threshold) == (3, None)
    assert parse("postgresql://[::1]:5432/db").place == "postgresql://[::1]:5432/db"
    assert parse("postgresql:///db").max_connections == 10


@pytest.mark.parametrize("call", ["connect", "connect_async"])
def test_a_missing_driver_names_the_install_line(call: str) -> None:
    code = (
        "import sys; sys.modules.update(psycopg=None, asyncpg=None)\n"
        f"import holdfast.backends as b\ntry: b.{call}('postgresql://me@host/db')\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == 'MissingExtra PostgreSQL needs psycopg 3: pip install "holdfast[postgres]"'


class ServerError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("first line\nsecond line")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "lost", "phase", "kind"),
    [
        ("40001", False, Phase.WRITE, Conflict),
        ("40P01", False, Phase.WITHIN, Conflict),
        ("40001", False, Phase.COMMIT, Conflict),
        ("42P01", False, Phase.READ, ConfigurationError),
        ("53300", False, Phase.WRITE, BackendUnavailable),
        ("57P03", False, Phase.WRITE, BackendUnavailable),
        ("57014", False, Phase.WRITE, BackendUnavailable),
        ("25006", False, Phase.WRITE, BackendUnavailable),
        ("57P01", True, Phase.READ, BackendUnavailable),
        ("57P01", True, Phase.WITHIN, BackendUnavailable),
        ("57P01", True, Phase.WRITE, OutcomeUnknown),
        ("57P02", False, Phase.COMMIT, OutcomeUnknown),
        (None, True, Phase.READ, BackendUnavailable),
        (None, True, Phase.WITHIN, BackendUnavailable),
        (None, True, Phase.WRITE, OutcomeUnknown),
        (None, True, Phase.COMMIT, OutcomeUnknown),
        ("23505", False, Phase.WRITE, ServerError),
        ("42601", False, Phase.COMMIT, ServerError),
        (None, False, Phase.WRITE, ServerError),
    ],
)
def test_what_an_error_means(sqlstate: str | None, *, lost: bool, phase: Phase, kind: type[Exception]) -> None:
    ours = Statement("ours", "select 1", Path("pattern"))
    explained = explain(ServerError(sqlstate), phase=phase, lost=lost, statement=ours, place="postgresql://db")
    assert type(explained) is kind
    assert "second line" not in str(explained) or kind is ServerError


def test_a_missing_table_of_the_users_own_is_the_users_own_error() -> None:
    error = ServerError("42P01")
    theirs = Statement("execute", "select 1 from orders")
    assert explain(error, phase=Phase.READ, lost=False, statement=theirs, place="postgresql://db") is error
