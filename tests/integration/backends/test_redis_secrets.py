"""A password is in no message, repr, traceback or log, whatever goes wrong."""

import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest

import holdfast.backends
from holdfast.backends.redis import Command
from holdfast.errors import BackendUnavailable
from holdfast.testing.services import RedisServer
from tests.conftest import started
from tests.integration.backends.redis_backends import COLOURS, LIBRARIES, ask, client, close, connect, increase

SECRET = "hunter2-planted"


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    server = RedisServer(password="right")
    yield started(server.start)
    server.stop()


def everything_said(error: BaseException) -> str:
    """Return all that a log or an error page could show of `error` and of what it is chained to."""
    said = ["".join(traceback.format_exception(error))]
    while error is not None:
        said += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(said)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{secret}@{place}/0",
        "redis://someone:{secret}@{place}/0",
        "valkey://:{secret}@{place}/0",
        "redis+cluster://:{secret}@{place}",
        "redis+sentinel://:{secret}@{place}/service?sentinel_password={secret}",
        "rediss://:{secret}@{place}/0",
        "redis://:{secret}@127.0.0.1:1/0",
        "redis://:{secret}@no-such-host.invalid/0",
        "redis+unix://:{secret}@/no/such/socket",
    ],
)
async def test_a_url_with_a_wrong_password_or_host_keeps_it_secret(
    url: str, colour: str, locked: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = connect(colour, url.format(secret=SECRET, place=f"{locked.host}:{locked.port}"), timeout=1)
    with pytest.raises(BackendUnavailable) as caught:
        await ask(backend, increase())
    assert SECRET not in everything_said(caught.value)
    assert SECRET not in repr(backend) + backend.place + caplog.text
    assert SECRET.encode() not in pickle.dumps(caught.value)
    await close(backend)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_client_with_a_wrong_password_keeps_it_secret(
    library: str, colour: str, locked: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    users = client(library, colour, f"redis://{locked.host}:{locked.port}/0", password=SECRET)
    backend = holdfast.backends.adopt(users)
    with pytest.raises(BackendUnavailable, match="not applied") as caught:
        await ask(backend, increase())
    assert SECRET not in everything_said(caught.value) + repr(backend) + caplog.text
    await close(users)


async def test_without_a_password_nothing_is_done(colour: str, locked: RedisServer) -> None:
    backend = connect(colour, f"redis://{locked.host}:{locked.port}/0")
    with pytest.raises(BackendUnavailable):
        await ask(backend, increase())
    await close(backend)


async def test_the_right_password_works(colour: str, locked: RedisServer) -> None:
    backend = connect(colour, f"redis://default:right@{locked.host}:{locked.port}/0")
    assert await ask(backend, increase()) > 0
    await close(backend)


async def test_values_are_not_repeated_in_errors(colour: str, locked: RedisServer) -> None:
    backend = connect(colour, f"redis://{locked.host}:{locked.port}/0")
    with pytest.raises(BackendUnavailable) as caught:
        await ask(backend, Command(["SET", "k", SECRET], writes=True))
    assert SECRET not in str(caught.value)
    await close(backend)
