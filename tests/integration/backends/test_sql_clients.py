"""What holds on every SQL backend, and for every kind of client that can be passed to a pattern."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import holdfast.backends
from holdfast.errors import ConfigurationError
from holdfast.operations import Run, Sleep, Steps
from tests.integration.backends.sql_backends import (
    POSTGRES_CLIENTS,
    SQLITE_CLIENTS,
    calling,
    entered,
    increase,
    increase_and_fail,
    increase_twice,
    now,
    prepare,
    stored,
    value,
    with_failing_part,
)

BOOK = """
create function book(name text) returns bigint language sql
as 'insert into holdfast_counter values (name, 7) returning value'
"""


class Opened(NamedTuple):
    backend: Any
    url: str
    commit: Any

    async def committed(self, name: str = "a") -> int | None:
        """Commit what is the user's to commit, and ask from outside what is stored."""
        if self.commit is not None:
            await now(self.commit())
        return await asyncio.to_thread(stored, self.url, name)


@pytest.fixture(params=[*SQLITE_CLIENTS, *POSTGRES_CLIENTS])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    if request.param in SQLITE_CLIENTS:
        url, make = f"sqlite:///{tmp_path / 'test.db'}", SQLITE_CLIENTS[request.param]
    else:
        url, make = prepare(request.getfixturevalue("postgres_url")), POSTGRES_CLIENTS[request.param]
    async with make(url) as (client, commit):
        yield Opened(holdfast.backends.adopt(client), url, commit)


async def test_a_statement_by_itself_is_committed(opened: Opened) -> None:
    assert await now(opened.backend.query(value())) is None
    assert await now(opened.backend.query(increase())) == 1
    assert await opened.committed() == 1


async def test_an_atomic_is_committed_as_a_whole(opened: Opened) -> None:
    assert await now(opened.backend.atomic(increase_twice)) == 2
    assert await opened.committed() == 2


async def test_an_atomic_that_raises_leaves_nothing_behind(opened: Opened) -> None:
    await now(opened.backend.query(increase()))
    with pytest.raises(KeyError):
        await now(opened.backend.atomic(increase_and_fail))
    assert await opened.committed() == 1


async def test_a_part_that_fails_undoes_just_its_own_work(opened: Opened) -> None:
    assert await now(opened.backend.atomic(with_failing_part)) == 2
    assert await opened.committed() == 2


async def test_the_users_function_works_in_the_open_transaction(opened: Opened) -> None:
    def read(tx: Any) -> Any:
        return tx.execute("select value + :more from holdfast_counter where name = :name", {"name": "a", "more": 41})

    assert await now(opened.backend.atomic(calling(read))) == [(42,)]


async def test_what_the_users_function_wrote_is_undone_with_the_rest(opened: Opened) -> None:
    async def work(tx: Any) -> None:
        await now(tx.execute("insert into holdfast_counter (name, value) values ('b', 1)"))
        raise KeyError("as the test wants it")

    def blocking(tx: Any) -> None:
        tx.execute("insert into holdfast_counter (name, value) values ('b', 1)")
        raise KeyError("as the test wants it")

    is_async = isinstance(opened.backend, holdfast.backends.AsyncBackend)
    with pytest.raises(KeyError):
        await now(opened.backend.atomic(calling(work if is_async else blocking)))
    assert await opened.committed("b") is None
    assert await opened.committed("a") is None


async def test_steps_may_sleep_within_a_transaction(opened: Opened) -> None:
    def steps() -> Steps[int]:
        yield from increase()
        yield from Sleep(0.001)
        yield from Run(lambda: None)
        return (yield from increase())

    assert await now(opened.backend.atomic(steps)) == 2


async def test_a_transaction_commits_at_its_end(opened: Opened) -> None:
    async with entered(opened.backend.transaction()) as tx:
        await now(tx.query(increase()))
        await now(tx.execute("update holdfast_counter set value = :value", {"value": 7}))
    assert await opened.committed() == 7


async def test_a_transaction_that_raises_is_rolled_back(opened: Opened) -> None:
    await now(opened.backend.query(increase()))
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
        async with entered(opened.backend.transaction()) as tx:
            await now(tx.query(increase()))
            raise KeyError("as the test wants it")
    assert await opened.committed() == 1


async def test_transactions_nest(opened: Opened) -> None:
    async with entered(opened.backend.transaction()) as tx:
        await now(tx.query(increase()))
        with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
            async with entered(tx.transaction()) as inner:
                await now(inner.query(increase()))
                raise KeyError("as the test wants it")
        await now(tx.atomic(increase_twice))
    assert await opened.committed() == 3


async def test_a_transaction_can_be_passed_on_as_a_client(opened: Opened) -> None:
    async with entered(opened.backend.transaction()) as tx:
        again = holdfast.backends.adopt(tx, timeout=3.0)
        assert again.dialect == opened.backend.dialect
        await now(again.query(increase()))  # type: ignore[attr-defined]
    assert await opened.committed() == 1
    with pytest.raises(Exception, match="has ended"):
        await now(again.query(increase()))  # type: ignore[attr-defined]


async def test_the_users_own_mistakes_pass_through_untouched(opened: Opened) -> None:
    await now(opened.backend.query(increase()))
    for sql in ("selct 1", "insert into holdfast_counter (name, value) values ('a', 1)"):
        with pytest.raises(Exception, match=r"selct|UNIQUE|duplicate") as caught:
            async with entered(opened.backend.transaction()) as tx:
                await now(tx.execute(sql))
        assert not type(caught.value).__module__.startswith("holdfast")
    assert await now(opened.backend.query(increase())) == 2


async def test_a_failed_statement_that_was_swallowed_does_not_pass_for_a_commit(opened: Opened) -> None:
    if opened.backend.dialect == "sqlite" or opened.commit is not None:
        pytest.skip("there the rest of the transaction is kept, or the commit is the user's own")
    with pytest.raises(Exception, match=r"failed|aborted"):  # noqa: PT012 - the block is what is tested
        async with entered(opened.backend.transaction()) as tx:
            await now(tx.query(increase()))
            with pytest.raises(Exception, match="syntax"):
                await now(tx.execute("selct 1"))
    assert await opened.committed() is None


async def test_what_a_function_of_the_users_wrote_is_kept(opened: Opened) -> None:
    if opened.backend.dialect == "sqlite":
        pytest.skip("functions of SQLite do not write")
    await now(opened.backend.execute(BOOK))
    assert await now(opened.backend.execute("select book('a')")) == [(7,)]
    assert await opened.committed() == 7


async def test_text_bytes_and_numbers_come_back_as_they_were(opened: Opened) -> None:
    text = "Grüße :name %s %(x)s $1 '"
    ints, floats = ("bigint", "double precision") if opened.backend.dialect == "postgres" else ("integer", "real")
    blob = "bytea" if opened.backend.dialect == "postgres" else "blob"
    rows = await now(
        opened.backend.execute(
            f"select cast(:text as text), cast(:blob as {blob}), cast(:int as {ints}), cast(:float as {floats}),"
            " cast(:none as text), ':text', '100%'",
            {"text": text, "blob": b"\x00\xff", "int": 2**62, "float": 0.1, "none": None, "unused": 1},
        )
    )
    assert rows == [(text, b"\x00\xff", 2**62, 0.1, None, ":text", "100%")]
    assert type(rows[0]) is tuple


async def test_a_missing_table_is_made_or_named(opened: Opened) -> None:
    if opened.backend.dialect == "sqlite":
        async with entered(opened.backend.transaction()) as tx:
            assert await now(tx.query(increase())) == 1
        assert await opened.committed() == 1
        return
    await now(opened.backend.execute("drop table holdfast_counter"))
    if opened.commit is not None:
        await now(opened.commit())
    with pytest.raises(ConfigurationError, match="holdfast migrate URL"):
        await now(opened.backend.query(increase()))
