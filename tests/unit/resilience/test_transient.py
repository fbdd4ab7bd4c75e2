"""Which errors the default of `@retry` tries again."""

import importlib
import ssl
from email.message import Message
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from holdfast.errors import (
    BackendUnavailable,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    OutcomeUnknown,
    RateLimited,
    TimedOut,
)
from holdfast.resilience import any_exception, is_transient


def client_error(module: str, name: str, *bases: type[Exception]) -> Exception:
    """Return an error whose class says it is `module.name`, as if that client were installed."""
    kind: type[Exception] = type(name, bases or (Exception,), {"__module__": module})
    return kind.__new__(kind, "simulated")


def http_error(status: int) -> Exception:
    """Return an error as httpx and requests raise it for a response."""
    error = client_error("httpx", "HTTPStatusError")
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        ConnectionRefusedError(),
        TimeoutError(),
        TimedOut("slow"),
        BackendUnavailable("down", backend="redis", operation="take"),
        client_error("httpx", "TransportError"),
        client_error("httpx2", "TransportError"),
        client_error("requests.exceptions", "ConnectionError"),
        client_error("requests.exceptions", "Timeout"),
        client_error("urllib3.exceptions", "NewConnectionError"),
        client_error("aiohttp.client_exceptions", "ClientConnectionError"),
        client_error("redis.exceptions", "ConnectionError"),
        client_error("redis.exceptions", "TimeoutError"),
        client_error("valkey.exceptions", "TimeoutError"),
        client_error("psycopg", "OperationalError"),
        client_error("asyncpg.exceptions._base", "PostgresConnectionError"),
    ],
    ids=repr,
)
def test_transient(error: Exception) -> None:
    """Connection and timeout errors are tried again, and so are their subclasses."""
    assert is_transient(error)
    assert is_transient(client_error("myapp.client", "Subclass", type(error)))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        KeyError(),
        OSError(),
        PermissionError(),
        ConfigurationError("wrong"),
        CircuitOpen("open"),
        BulkheadFull("full"),
        RateLimited("slow down", retry_after=1.0),
        OutcomeUnknown("perhaps", backend="redis", operation="take"),
        client_error("httpx", "UnsupportedProtocol", type(client_error("httpx", "TransportError"))),
        client_error("requests.exceptions", "SSLError", type(client_error("requests", "ConnectionError"))),
        client_error("redis", "AuthenticationError", type(client_error("redis", "ConnectionError"))),
        client_error("psycopg.errors", "InvalidPassword", type(client_error("psycopg", "OperationalError"))),
        client_error("myapp", "OperationalError"),
        client_error("myapp.requests", "ConnectionError"),
    ],
    ids=repr,
)
def test_lasting(error: Exception) -> None:
    """Bugs, refusals, refused logins, failed certificates and unknown outcomes are not."""
    assert not is_transient(error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_http_statuses_that_may_pass(status: int) -> None:
    """These say that the same request may succeed later."""
    assert is_transient(http_error(status))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 501, 505])
def test_http_statuses_that_stay(status: int) -> None:
    """These describe the request itself."""
    assert not is_transient(http_error(status))


def test_the_status_of_aiohttp_errors_is_on_the_error() -> None:
    """Only aiohttp puts it there; on errors of others the attribute means something else."""
    error = client_error("aiohttp.client_exceptions", "ClientResponseError")
    error.status = 503  # type: ignore[attr-defined]
    assert is_transient(error)
    other = client_error("myapp", "Error")
    other.status = 503  # type: ignore[attr-defined]
    assert not is_transient(other)


@pytest.mark.parametrize(("status", "transient"), [(503, True), (429, True), (404, False), (401, False)])
def test_the_status_of_urllib_errors_is_their_code(status: int, transient: bool) -> None:  # noqa: FBT001
    assert is_transient(HTTPError("http://shop.test", status, "?", Message(), None)) is transient


@pytest.mark.parametrize(
    ("reason", "transient"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (ssl.SSLCertVerificationError("self-signed"), False),
        ("unknown url type: htp", False),
    ],
)
def test_urllib_wraps_what_the_socket_raised(reason: Any, transient: bool) -> None:  # noqa: FBT001
    assert is_transient(URLError(reason)) is transient


BEFORE = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "transient"),
    [
        ("Connection refused", True),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ('FATAL:  password authentication failed for user "shop"', False),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "shop", database "shop", no encryption', False),
        ('FATAL:  database "shop" does not exist', False),
        ('FATAL:  role "shop" does not exist', False),
        ('FATAL:  role "shop" is not permitted to log in', False),
        ("fe_sendauth: no password supplied", False),
        ("server does not support SSL, but SSL was required", False),
        ("SSL error: certificate verify failed", False),
    ],
)
def test_psycopg_says_only_in_words_why_a_login_failed(text: str, transient: bool) -> None:  # noqa: FBT001
    """There is no sqlstate before the session has begun."""
    psycopg = pytest.importorskip("psycopg")
    assert is_transient(psycopg.OperationalError(BEFORE + text)) is transient
    subclass = type("Subclass", (psycopg.OperationalError,), {})
    assert is_transient(subclass(BEFORE + text)) is transient


def test_within_a_session_the_sqlstate_decides() -> None:
    errors = pytest.importorskip("psycopg.errors")
    assert is_transient(errors.AdminShutdown("terminating connection: role does not exist any more"))


@pytest.mark.parametrize(
    ("module", "name", "transient", "arguments"),
    [
        ("httpx", "ConnectError", True, ("refused",)),
        ("httpx", "ReadTimeout", True, ("slow",)),
        ("httpx", "RemoteProtocolError", True, ("cut off",)),
        ("httpx", "UnsupportedProtocol", False, ("ftp",)),
        ("httpx", "InvalidURL", False, ("?",)),
        ("redis.exceptions", "ConnectionError", True, ()),
        ("redis.exceptions", "TimeoutError", True, ()),
        ("redis.exceptions", "BusyLoadingError", True, ()),
        ("redis.exceptions", "AuthenticationError", False, ()),
        ("redis.exceptions", "ResponseError", False, ()),
        ("valkey.exceptions", "ConnectionError", True, ()),
        ("psycopg", "OperationalError", True, ()),
        ("psycopg.errors", "SerializationFailure", True, ()),
        ("psycopg.errors", "InvalidPassword", False, ()),
        ("psycopg.errors", "UniqueViolation", False, ()),
        ("asyncpg", "ConnectionDoesNotExistError", True, ()),
        ("asyncpg", "DeadlockDetectedError", True, ()),
        ("asyncpg", "InvalidPasswordError", False, ()),
    ],
)
def test_real_clients(module: str, name: str, transient: bool, arguments: tuple[Any, ...]) -> None:  # noqa: FBT001
    """The names in the table are those that the installed clients really use."""
    client = pytest.importorskip(module, reason=f"{module} is not installed")
    assert is_transient(getattr(client, name)(*arguments)) is transient


def test_it_imports_no_client() -> None:
    """Recognising a client does not import it: the table holds names only."""
    source = importlib.import_module("holdfast.resilience.transient").__file__
    assert source is not None
    with open(source, encoding="utf-8") as file:  # noqa: PTH123 - one line is enough
        imports = [line.split()[1] for line in file if line.startswith(("import ", "from "))]
    assert {name.partition(".")[0] for name in imports} == {"__future__", "typing", "holdfast"}


def test_any_exception_leaves_out_refusals_and_wrong_configuration() -> None:
    """The escape means every failure of the call, not a decision of an inner policy."""
    assert any_exception(ValueError())
    assert not any_exception(BulkheadFull("full"))
    assert not any_exception(ConfigurationError("wrong"))
