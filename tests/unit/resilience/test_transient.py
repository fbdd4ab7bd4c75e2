"""Which errors the default of `@retry` tries again."""

import importlib
from types import SimpleNamespace
from typing import Any

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
