"""What is special about PostgreSQL: isolation levels, and servers that are killed in the middle."""

from typing import Any

import psycopg
import pytest

from holdfast import backends
from holdfast.backends import migrations
from holdfast.errors import BackendError, BackendUnavailable
from holdfast.idempotency import idempotent_execute
from holdfast.testing.services import PostgresServer


def migrate(url: str) -> None:
    with backends.connect(url) as db:
        backend: Any = db
        migrations.migrate(backend)
        backend.execute("create table effect (name text)")


@pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE], ids=lambda level: level.name
)
def test_an_old_snapshot_never_executes_twice(postgres_url: str, level: psycopg.IsolationLevel) -> None:
    """A transaction that cannot see the stored answer is refused; begun anew, it gets the answer."""
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as old, backends.connect(postgres_url) as db:
        old.isolation_level = level
        old.execute("select 1 from effect")
        assert idempotent_execute(db, "key", "/p", lambda: "first") == "first"
        with pytest.raises(BackendUnavailable):
            idempotent_execute(old, "key", "/p", lambda: pytest.fail("executed twice"))
        old.rollback()
        assert idempotent_execute(old, "key", "/p", lambda: pytest.fail("executed twice")) == "first"


@pytest.mark.parametrize("lease", [None, 0.5], ids=["in one transaction", "under a lease"])
def test_a_server_that_dies_in_the_middle_leaves_one_effect(
    own_postgres_server: PostgresServer, lease: float | None
) -> None:
    """Whatever error the first request gets, its retry finds the truth."""
    migrate(own_postgres_server.url)
    with backends.connect(own_postgres_server.url, timeout=10.0) as db:
        backend: Any = db

        def dies(*_: Any) -> str:
            own_postgres_server.kill()
            return "done"

        def works(*_: Any) -> str:
            return "done"

        def write(tx: Any, answer: str) -> None:
            tx.execute("insert into effect (name) values (:name)", {"name": answer})

        def execute(process: Any) -> str:
            if lease is not None:
                return idempotent_execute(backend, "key", "/p", process, commit=write, lease=lease)  # type: ignore[no-any-return]

            def process_and_write(tx: Any) -> str:
                write(tx, "done")
                return str(process())

            return idempotent_execute(backend, "key", "/p", process_and_write)  # type: ignore[no-any-return]

        with pytest.raises(BackendError):
            execute(dies)
        own_postgres_server.restart()
        assert [execute(works), execute(works)] == ["done", "done"]
        assert backend.execute("select name from effect") == [("done",)]
