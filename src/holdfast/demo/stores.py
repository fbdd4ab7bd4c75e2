"""Where the demo keeps things: one SQLite file, or Redis and PostgreSQL of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.demo.processes import NotStarted

__all__ = ["BACKENDS", "stores"]

BACKENDS = ("sqlite", "redis+postgres")
Urls = tuple[str, str, str]


@contextlib.contextmanager
def stores(backend: str, folder: Path, say: Callable[[str], None]) -> Iterator[Urls]:
    """The addresses of the database, of locks and limits, and of the broker; servers end with the block."""
    if backend == "sqlite":
        database = f"sqlite:///{folder / 'holdfast.db'}"
        yield database, database, f"sqlite:///{folder / 'broker.db'}"
        return
    from holdfast.testing.services import PostgresServer, RedisServer, ServiceUnavailable

    with contextlib.ExitStack() as servers:
        try:
            redis = servers.enter_context(RedisServer(appendonly=True))
            postgres = servers.enter_context(PostgresServer(durable=True))
        except ServiceUnavailable as reason:
            raise NotStarted(" ".join(str(reason).split())) from None
        say(f"started a Redis on port {redis.port} and a PostgreSQL on port {postgres.port}")
        _migrate(postgres.url)
        yield postgres.url, redis.url, redis.url


def _migrate(url: str) -> None:
    from holdfast.backends import connect
    from holdfast.backends.migrations import migrate

    with connect(url) as backend:
        migrate(backend)
