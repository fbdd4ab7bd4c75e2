"""Servers for the tests.

`redis_url` and `postgres_url` are empty at the start of each test; the servers behind them are shared, so a test must
not kill or pause them. A test that does so asks for `own_redis_server` or `own_postgres_server`.

A test whose server cannot be had is skipped with the reason; with `HOLDFAST_REQUIRE_SERVICES=1` it fails instead.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from holdfast.testing.services import PostgresServer, RedisSentinel, RedisServer, ServiceUnavailable
from holdfast.testing.services.find import POSTGRES, REDIS, find
from tests import services
from tests.services import Service

T = TypeVar("T")
REQUIRED = os.environ.get("HOLDFAST_REQUIRE_SERVICES") == "1"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fetch missing servers, when all are required, before the clock of the first test runs."""
    if REQUIRED and not hasattr(session.config, "workerinput"):
        for programs in (REDIS, POSTGRES):
            # Which tests need it decides who fails.
            with contextlib.suppress(ServiceUnavailable):
                find(programs)


def started(start: Callable[[], T]) -> T:
    """Return what `start` returns, or skip (or fail) the test when there is no such server here."""
    try:
        return start()
    except ServiceUnavailable as reason:
        if REQUIRED:
            pytest.fail(f"{reason} (HOLDFAST_REQUIRE_SERVICES=1 forbids to skip)", pytrace=False)
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def redis_server() -> Service:
    """Return the shared Redis."""
    return started(services.redis_server)


@pytest.fixture(scope="session")
def redis_cluster() -> RedisServer:
    """Return the shared Redis in cluster mode; `redis_cluster.empty()` empties it."""
    return started(services.redis_cluster)


@pytest.fixture(scope="session")
def redis_sentinel() -> RedisSentinel:
    """Return the shared Redis behind a Sentinel; `redis_sentinel.master.empty()` empties it."""
    return started(services.redis_sentinel)


@pytest.fixture(scope="session")
def postgres_server() -> Service:
    """Return the shared PostgreSQL."""
    return started(services.postgres_server)


@pytest.fixture
def redis_url(redis_server: Service) -> str:
    """Return the address of an empty Redis database."""
    return services.empty_redis_url()


@pytest.fixture
def postgres_url(postgres_server: Service) -> str:
    """Return the address of an empty PostgreSQL database, to which nobody is connected."""
    return services.empty_postgres_url()


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """Yield a Redis that this test may kill, pause and restart; it confirms nothing that a kill would lose."""
    server = RedisServer(appendonly=True)
    yield started(server.start)
    server.stop()


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL that this test may kill, pause and restart."""
    server = PostgresServer()
    yield started(server.start)
    server.stop()
