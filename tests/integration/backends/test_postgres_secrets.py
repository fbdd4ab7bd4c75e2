"""No password in an error, its chain, a repr, a place or a log, whatever goes wrong."""

import logging
import traceback
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import psycopg
import pytest

import holdfast.backends
from holdfast.backends.migrations import migrate
from holdfast.backends.postgres import PostgresAsync
from holdfast.backends.postgres._address import parse
from holdfast.backends.postgres._connect import asyncpg_pool
from holdfast.cli import main
from holdfast.errors import BackendError, BackendUnavailable, ConfigurationError, HoldfastError
from holdfast.testing.services import PostgresServer
from tests.integration.backends.sql_backends import increase, now

SECRET = "s3cr3t/h@zel#?:nut"
ENCODED = quote(SECRET, safe="")


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look through every log line of a test, too."""
    caplog.set_level(logging.DEBUG)
    yield
    assert_no_secret("\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records))


def assert_no_secret(text: str) -> None:
    for part in (SECRET, ENCODED, "s3cr3t", "zel", "nut"):
        assert part not in text


def shown(error: BaseException) -> str:
    facts = error.facts if isinstance(error, HoldfastError) else ""
    return "".join(traceback.format_exception(error)) + repr(error) + str(facts)


def backends(url: str) -> list[object]:
    address = parse(url)
    return [
        holdfast.backends.connect(url, timeout=2.0),
        holdfast.backends.connect_async(url, timeout=2.0),
        PostgresAsync(asyncpg_pool(address), address.place, timeout=2.0),
    ]


async def test_a_wrong_password_is_not_shown(own_postgres_server: PostgresServer) -> None:
    with psycopg.connect(own_postgres_server.url, autocommit=True) as connection:
        connection.execute("create role careful login password 'another one'")
        rules = own_postgres_server.data / "pg_hba.conf"
        rules.write_text("host all careful 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        connection.execute("select pg_reload_conf()")
    split = urlsplit(own_postgres_server.url)
    for backend in backends(f"postgresql://careful:{ENCODED}@127.0.0.1:{split.port}/postgres"):
        with pytest.raises(BackendUnavailable, match="password authentication failed") as caught:
            await now(backend.query(increase()))  # type: ignore[attr-defined]
        assert_no_secret(shown(caught.value) + repr(backend))


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid", "127.0.0.1:1,127.0.0.1:2"])
async def test_an_unreachable_host_shows_no_password(host: str) -> None:
    for backend in backends(f"postgresql://me:{ENCODED}@{host}/db"):
        with pytest.raises(BackendError) as caught:
            await now(backend.query(increase()))  # type: ignore[attr-defined]
        assert_no_secret(shown(caught.value) + repr(backend) + backend.place)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/db",
        "postgresql://me:s3cr3t/nut@host/db",
        "postgresql://me:s3cr3t?nut@host/db",
        "postgresql://me:s3cr3t#nut@host/db",
        "postgresql://me:s3cr3t:nut@host/db",
        f"postgresql://me:{ENCODED}@[::1/db",
        f"postgresql://me:{ENCODED}@host:port/db",
        f"postgresql://me:{ENCODED}%zz@host/db",
        f"postgresql://me:{ENCODED}@host/db?no_such_option=1",
        f"postgresql://me:{ENCODED}@host/db?max_connections=many",
    ],
)
def test_a_malformed_url_shows_no_password(url: str) -> None:
    for connect in (holdfast.backends.connect, holdfast.backends.connect_async):
        with pytest.raises(ConfigurationError) as caught:
            connect(url)
        assert_no_secret(shown(caught.value))


def test_a_password_in_the_options_is_not_in_the_place() -> None:
    backend = holdfast.backends.connect(f"postgresql://me@127.0.0.1:1/db?password={ENCODED}")
    assert_no_secret(repr(backend))
    with pytest.raises(BackendUnavailable) as caught:
        backend.query(increase())  # type: ignore[attr-defined]
    assert_no_secret(shown(caught.value))


def test_the_command_line_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", f"postgresql://me:{ENCODED}@127.0.0.1:1/db"]) == 1
    assert main(["migrate", f"postgresql://me:{SECRET}@127.0.0.1:1/db"]) == 2
    output = capsys.readouterr()
    assert_no_secret(output.out + output.err)
    assert "127.0.0.1" in output.err


def test_a_connection_of_the_users_shows_no_password(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, password=SECRET) as connection:
        backend = holdfast.backends.adopt(connection)
        assert_no_secret(repr(backend))
        connection.close()
        with pytest.raises(BackendUnavailable) as caught:
            backend.query(increase())  # type: ignore[attr-defined]
        assert_no_secret(shown(caught.value))
    with pytest.raises(ConfigurationError):
        migrate(holdfast.backends.connect(postgres_url + "?max_connections=0"), [])
