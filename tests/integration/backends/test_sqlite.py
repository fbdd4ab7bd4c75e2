"""SQLite as one process sees it: settings, locks, tasks, cancellation, a connection of the user's own."""

import asyncio
import contextlib
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast.backends
from holdfast.backends.sql import Query, Statement
from holdfast.backends.sqlite import SqliteAsync, SqliteSync
from holdfast.errors import BackendUnavailable, ConfigurationError
from holdfast.operations import Run, Steps
from tests.integration.backends.sql_backends import (
    SCHEMA,
    calling,
    gathered,
    increase,
    increase_and_fail,
    increase_twice,
    value,
)


class Clock:
    def monotonic(self) -> float:
        return 12.5

    def wall(self) -> float:
        return 99.5


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "test.db")


@pytest.fixture
def backend(file: str) -> Iterator[SqliteSync]:
    with SqliteSync(file) as opened:
        yield opened


@pytest.fixture
async def tasks(file: str) -> AsyncIterator[SqliteAsync]:
    async with SqliteAsync(file) as opened:
        yield opened


# -- Settings ----------------------------------------------------------------------------------------------------------


def test_every_connection_uses_the_log_and_checks_foreign_keys(backend: SqliteSync) -> None:
    for pragma, expected in (("journal_mode", "wal"), ("foreign_keys", 1), ("mmap_size", 0), ("busy_timeout", 0)):
        assert backend.execute(f"pragma {pragma}") == [(expected,)]


def test_only_what_must_survive_a_power_cut_waits_for_the_disk(backend: SqliteSync) -> None:
    normal, full = 1, 2
    seen: dict[str, int] = {}

    def note(name: str) -> None:
        # The one idle connection still has the setting of its last write.
        seen[name] = backend.database._idle[-1].execute("pragma synchronous").fetchone()[0]

    insert = "insert into holdfast_counter values ('x', 1) on conflict do nothing"
    backend.query(increase())
    note("default")
    backend.query(Query(Statement("durable", insert, SCHEMA, durable=True), {}))
    note("durable")
    backend.query(increase())
    note("default again")
    backend.execute(insert)
    note("the user's own")
    backend.query(increase())
    backend.atomic(increase_twice)
    note("transaction")
    assert seen == {
        "default": normal, "durable": full, "default again": normal, "the user's own": full, "transaction": full
    }  # fmt: skip


def test_sql_can_ask_for_the_clock(file: str) -> None:
    backend = SqliteSync(file, clock=Clock())
    assert backend.execute("select holdfast_now(), holdfast_wall()") == [(12.5, 99.5)]
    backend.close()


def test_what_is_in_use_while_a_backend_is_closed_is_closed_afterwards(backend: SqliteSync, file: str) -> None:
    with backend.transaction() as tx:
        tx.query(increase())
        backend.close()
    assert open_files(file) == 0
    assert backend.query(value()) == 1, "closing ends connections, not the backend"
    assert open_files(file) == 0


def open_files(file: str) -> int:
    return [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")].count(os.path.realpath(file))


def test_a_missing_folder_is_a_refusal_that_names_the_file(tmp_path: Path) -> None:
    with (
        SqliteSync(str(tmp_path / "nowhere" / "test.db")) as backend,
        pytest.raises(BackendUnavailable, match=r"nowhere/test\.db"),
    ):
        backend.query(increase())


def test_a_file_that_is_no_database_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_text("this is a letter to a friend\n" * 100)
    with SqliteSync(str(tmp_path / "test.db")) as backend, pytest.raises(BackendUnavailable, match="not a database"):
        backend.query(increase())


def test_a_thread_that_would_wait_for_itself_is_told_so_at_once(file: str) -> None:
    # A second backend on the same file, for nobody keeps count of those.
    with SqliteSync(file) as backend, SqliteSync(file) as second, backend.transaction():
        begun = time.monotonic()
        for other in (backend, second):
            with pytest.raises(ConfigurationError, match="wait for itself"):
                other.query(increase())
        assert time.monotonic() - begun < 1.0


async def test_a_task_that_would_wait_for_itself_is_told_so_at_once(tasks: SqliteAsync) -> None:
    async def forgetful(tx: Any) -> None:
        del tx
        await tasks.query(increase())

    with pytest.raises(ConfigurationError, match="wait for itself"):
        await tasks.atomic(calling(forgetful))
    with pytest.raises(ConfigurationError, match="wait for itself"):
        async with tasks.transaction() as tx:
            await forgetful(tx)
    assert await tasks.query(increase()) == 1


# -- The user's own connection -----------------------------------------------------------------------------------------


@pytest.fixture(params=[None, "", "IMMEDIATE"])
def connection(request: pytest.FixtureRequest, file: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=request.param)) as opened:
        opened.row_factory = sqlite3.Row
        yield opened


def test_an_open_transaction_of_the_users_is_joined(connection: sqlite3.Connection, backend: SqliteSync) -> None:
    mine = holdfast.backends.adopt(connection)
    assert isinstance(mine.query(increase()), int)  # type: ignore[attr-defined]
    connection.execute("begin")
    connection.execute("insert into holdfast_counter values ('b', 1)")
    mine.query(increase())  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        mine.atomic(increase_and_fail)  # type: ignore[attr-defined]
    assert connection.in_transaction
    assert backend.query(value()) == 1
    connection.rollback()
    assert backend.query(value()) == 1
    assert backend.query(value("b")) is None


def test_settings_of_the_users_connection_are_kept(connection: sqlite3.Connection) -> None:
    level = connection.isolation_level
    mine = holdfast.backends.adopt(connection)
    assert mine.execute("select 1, holdfast_now() > 0") == [(1, 1)]  # type: ignore[attr-defined]
    mine.atomic(increase_twice)  # type: ignore[attr-defined]
    assert connection.isolation_level == level
    assert connection.row_factory is sqlite3.Row
    assert connection.execute("pragma busy_timeout").fetchone()[0] == 5000
    assert not connection.in_transaction


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3.connect(autocommit=...) came with Python 3.12")
def test_a_connection_that_commits_by_itself_keeps_no_lock(file: str, backend: SqliteSync) -> None:
    with contextlib.closing(sqlite3.connect(file, autocommit=True)) as opened:  # type: ignore[call-overload]
        mine: Any = holdfast.backends.adopt(opened)
        assert mine.query(increase()) == 1
        assert not opened.in_transaction
        assert backend.query(increase()) == 2
        with pytest.raises(KeyError):
            mine.atomic(increase_and_fail)
        assert not opened.in_transaction
        assert backend.query(value()) == 2


def test_a_locked_file_is_waited_for_no_longer_than_the_deadline(
    connection: sqlite3.Connection, backend: SqliteSync
) -> None:
    mine = holdfast.backends.adopt(connection, timeout=0.2)
    with backend.transaction():
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            mine.query(increase())  # type: ignore[attr-defined]
        assert 0.2 <= time.monotonic() - begun < 0.5


# -- Tasks -------------------------------------------------------------------------------------------------------------


async def test_tasks_lose_nothing(tasks: SqliteAsync) -> None:
    answers = await gathered(200, lambda _: tasks.query(increase()))
    assert sorted(answers) == list(range(1, 201))


async def test_a_transaction_of_statements_is_one_hop(tasks: SqliteAsync, monkeypatch: pytest.MonkeyPatch) -> None:
    hops = []
    original = holdfast.backends.sqlite._asyncio.hop  # type: ignore[attr-defined]

    async def counted(*arguments: Any, **options: Any) -> Any:
        hops.append(arguments[0])
        return await original(*arguments, **options)

    monkeypatch.setattr("holdfast.backends.sqlite._asyncio.hop", counted)
    assert await tasks.atomic(increase_twice) == 2
    assert len(hops) == 1


async def test_waiting_for_the_lock_blocks_neither_the_loop_nor_the_readers(tasks: SqliteAsync, file: str) -> None:
    await tasks.query(increase())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    waiting = [asyncio.create_task(tasks.query(increase())) for _ in range(50)]
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    assert await gathered(20, lambda _: tasks.query(value())) == [1] * 20
    assert time.monotonic() - begun < 1.0
    assert not any(task.done() for task in waiting)
    other.execute("commit")
    other.close()
    assert sorted(await asyncio.gather(*waiting)) == list(range(2, 52))


async def test_the_lock_is_waited_for_no_longer_than_the_deadline(tasks: SqliteAsync, file: str) -> None:
    await tasks.query(increase())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    for ask in (lambda: tasks.within(0.2).query(increase()), lambda: tasks.within(0.2).atomic(increase_twice)):
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await ask()
        assert 0.2 <= time.monotonic() - begun < 0.6
    other.close()


async def test_threads_and_tasks_share_one_queue(file: str) -> None:
    async with SqliteAsync(file) as tasks:
        with SqliteSync(file) as backend:
            worker = threading.Thread(target=lambda: [backend.query(increase()) for _ in range(200)])
            worker.start()
            await gathered(200, lambda _: tasks.query(increase()))
            await asyncio.to_thread(worker.join)
            assert backend.query(value()) == 400


async def test_a_cancelled_task_leaves_no_transaction_and_no_lock(tasks: SqliteAsync, file: str) -> None:
    async def slowly(tx: Any) -> None:
        await asyncio.sleep(0.002)
        await tx.query(increase("b"))

    dice = random.Random(7)
    kinds = [
        lambda: tasks.atomic(increase_twice),
        lambda: tasks.atomic(calling(slowly)),
        lambda: tasks.query(increase()),
    ]
    for number in range(300):
        task = asyncio.ensure_future(kinds[number % 3]())
        await asyncio.sleep(dice.uniform(0, 0.004))
        task.cancel()
        await asyncio.wait([task])
    assert (await tasks.query(value()) or 0) >= (await tasks.query(value("b")) or 0)
    other = sqlite3.connect(file, timeout=0)  # nobody holds the lock
    other.execute("begin immediate")
    other.close()
    assert all(not connection.in_transaction for connection in tasks.database._idle)
    assert len(tasks.database.turn._items) == 1


async def test_a_transaction_block_that_is_cancelled_rolls_back(tasks: SqliteAsync) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with tasks.transaction() as tx:
            await tx.query(increase())
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await tasks.query(value()) is None
    assert await tasks.query(increase()) == 1


async def test_steps_that_are_cancelled_may_still_write_what_must_be_written(tasks: SqliteAsync) -> None:
    async def forever() -> None:
        await asyncio.sleep(60)

    def steps() -> Steps[str]:
        yield from increase()
        try:
            yield from Run(forever)
        except asyncio.CancelledError:
            yield from increase("cancelled")
            return "tidied up"
        return "never"

    task = asyncio.ensure_future(tasks.atomic(steps))
    await asyncio.sleep(0.05)
    task.cancel()
    assert await task == "tidied up"
    assert await tasks.query(value("cancelled")) == 1


async def test_tasks_may_share_a_transaction(tasks: SqliteAsync) -> None:
    async with tasks.transaction() as tx:
        assert sorted(await gathered(20, lambda _: tx.query(increase()))) == list(range(1, 21))
    assert await tasks.query(value()) == 20


def test_a_backend_serves_one_event_loop_after_another(file: str) -> None:
    backend = SqliteAsync(file)
    assert [asyncio.run(backend.query(increase())) for _ in range(3)] == [1, 2, 3]
    asyncio.run(backend.aclose())
