"""The servers that the tests of one process share; started when first asked for, stopped when the process ends.

An address in `HOLDFAST_TEST_REDIS_URL` or `HOLDFAST_TEST_POSTGRES_URL` is used instead of a private server. Tests empty
what they use: of that Redis the database in the URL (with pytest-xdist the following ones, too, one per worker), of
that PostgreSQL a database `holdfast_test_...` that they make and drop.
"""

import atexit
import functools
import os
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import redis

from holdfast.testing.services import PostgresServer, RedisSentinel, RedisServer, address_given
from holdfast.testing.services.postgres import create_database, drop_database, empty_database


class Service(Protocol):
    """A server that tests may use but not hurt."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Given:
    """A server that somebody else runs."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        split = urlsplit(self.url)
        return split.port or {"postgresql": 5432}.get(split.scheme, 6379)


@functools.cache
def redis_server() -> Service:
    """Return the shared Redis."""
    given = address_given("redis")
    return Given(_own_redis_database(given)) if given else RedisServer().start()


@functools.cache
def redis_cluster() -> RedisServer:
    """Return the shared Redis in cluster mode."""
    return RedisServer(cluster=True).start()


@functools.cache
def redis_sentinel() -> RedisSentinel:
    """Return the shared Redis behind a Sentinel."""
    return RedisSentinel().start()


@functools.cache
def postgres_server() -> Service:
    """Return the shared PostgreSQL."""
    given = address_given("postgres")
    return Given(given) if given else PostgresServer().start()


def empty_redis_url() -> str:
    """Return the address of the shared Redis, emptied."""
    url = redis_server().url
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def empty_postgres_url() -> str:
    """Return the address of this process's database on the shared PostgreSQL, emptied."""
    url = _own_postgres_database()
    empty_database(url)
    return url


@functools.cache
def _own_postgres_database() -> str:
    server = postgres_server().url
    name = f"holdfast_test_{os.getpid()}"
    create_database(server, name)
    if isinstance(postgres_server(), Given):
        atexit.register(drop_database, server, name)
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


def _own_redis_database(url: str) -> str:
    split = urlsplit(url)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return urlunsplit(split._replace(path=f"/{int(split.path.strip('/') or 0) + worker}"))
