"""What is special about PostgreSQL: isolation levels, and servers that are killed in the middle."""

import time
from typing import Any

import psycopg
import pytest

from holdfast import backends
from holdfast.backends import migrations
from holdfast.errors import BackendError, BackendUnavailable, KeyInProgress
from holdfast.idempotency import _execution, idempotent_execute, prune
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


@pytest.fixture
def expired(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a database with two expired answers, which every execution removes."""
    migrate(postgres_url)
    monkeypatch.setattr(_execution, "PRUNE_ONE_IN", float("inf"))
    with backends.connect(postgres_url) as db:
        for key in ("one", "two"):
            idempotent_execute(db, key, "/p", lambda: "old", ttl=0.001)
    monkeypatch.setattr(_execution, "PRUNE_ONE_IN", 1)
    time.sleep(0.01)
    return postgres_url


def stored_keys(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [key for (key,) in connection.execute("select key from holdfast_idempotency order by key")]


def test_a_transaction_that_removed_answers_stops_nobody(expired: str) -> None:
    """Until it is committed, who asks for one of their keys is told so; others execute, and remove what they find."""
    with psycopg.connect(expired) as slow, backends.connect(expired) as db:
        slow.execute("select 1")
        assert idempotent_execute(slow, "slow", "/p", lambda: "slow") == "slow"
        with pytest.raises(KeyInProgress):
            idempotent_execute(db, "one", "/p", lambda: pytest.fail("the first one is not gone yet"), wait=0)
        assert idempotent_execute(db, "quick", "/p", lambda: "quick", wait=0) == "quick"
        slow.commit()
        assert stored_keys(expired) == ["quick", "slow"]
        assert idempotent_execute(db, "one", "/p", lambda: "new", wait=0) == "new"


def test_a_transaction_in_which_nothing_can_be_removed_goes_on(expired: str) -> None:
    with psycopg.connect(expired, autocommit=True) as admin:
        admin.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;"
            "create trigger refuse before delete on holdfast_idempotency for each row execute function refuse()"
        )
    with psycopg.connect(expired) as db:
        db.execute("insert into effect values ('before')")
        assert idempotent_execute(db, "key", "/p", lambda: "done") == "done"
        db.execute("insert into effect values ('after')")
    assert stored_keys(expired) == ["key", "one", "two"]


def test_a_serializable_transaction_removes_nothing(expired: str) -> None:
    """What it would read for that could make it fail; one that has not written anything yet is not the user's."""
    with psycopg.connect(expired) as db:
        db.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        db.execute("insert into effect values ('mine')")
        assert idempotent_execute(db, "key", "/p", lambda: "done") == "done"
        db.commit()
        assert stored_keys(expired) == ["key", "one", "two"]
        assert prune(db) == 2


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
