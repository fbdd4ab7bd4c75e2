"""Fences at the resource: on real stores, in transactions, and against a holder that was really paused."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import holdfast
from holdfast.backends import Backend, migrations
from holdfast.errors import ConfigurationError, StaleToken
from holdfast.locks import Fence, FencedTable, FencedValue, Lock
from tests.integration.backends.sql_backends import entered, now

ACCOUNTS = "create table accounts (id text primary key, balance integer not null, fence bigint)"


@pytest.fixture(params=["sqlite", "postgres"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/fences.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with holdfast.connect(url) as db:
        migrations.migrate(db)
        db.execute(ACCOUNTS)
        db.execute("insert into accounts (id, balance) values ('a', 100)")
    return url


@pytest.fixture(params=["sync", "async"])
async def db(request: pytest.FixtureRequest, sql_url: str) -> AsyncIterator[Backend[Any]]:
    if request.param == "sync":
        with holdfast.connect(sql_url) as blocking:
            yield blocking
    else:
        async with holdfast.connect_async(sql_url) as awaited:
            yield awaited


async def row(db: Any) -> tuple[Any, ...]:
    return tuple((await now(db.execute("select balance, fence from accounts where id = 'a'")))[0])


async def test_a_row_refuses_a_stale_holder(db: Any) -> None:
    """One statement looks and writes; a row without a token yet takes any; a row that is not there is no refusal."""
    accounts: Any = FencedTable(db, "accounts")
    assert await now(accounts.update("a", {"balance": 90}, token=5)) is True
    assert await now(accounts.update("a", {"balance": 80}, token=5)) is True
    with pytest.raises(StaleToken, match="accounts") as caught:
        await now(accounts.update("a", {"balance": 70}, token=4))
    assert (caught.value.facts["token"], caught.value.facts["newest"]) == (4, 5)
    assert await row(db) == (80, 5)
    assert await now(accounts.update("a", {}, token=6)) is True
    assert await row(db) == (80, 6)
    assert await now(accounts.update("nobody", {"balance": 1}, token=9)) is False


async def test_a_fenced_update_is_part_of_the_transaction(db: Any) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with entered(db.transaction()) as tx:
            await now(FencedTable(tx, "accounts").update("a", {"balance": 0}, token=9))
            raise ZeroDivisionError
    assert await row(db) == (100, None)


async def test_a_fence_and_the_write_commit_together(db: Any) -> None:
    """A refused check changes nothing, and a rolled-back one is forgotten."""

    async def write(token: int, *, fail: bool = False) -> None:
        async with entered(db.transaction()) as tx:
            await now(Fence(tx, "accounts").check(token))
            await now(tx.execute("update accounts set balance = balance - 10 where id = 'a'"))
            if fail:
                raise ZeroDivisionError

    await write(5)
    with pytest.raises(StaleToken):
        await write(4)
    with pytest.raises(ZeroDivisionError):
        await write(9, fail=True)
    await write(6)
    assert (await row(db))[0] == 80


async def test_of_two_holders_at_once_the_newer_writes_last(sql_url: str) -> None:
    """The older one is in the middle of its transaction when the newer one comes: it waits, and has the last word."""
    order: list[int] = []
    async with holdfast.connect_async(sql_url) as db:

        async def write(token: int, seconds: float) -> None:
            async with db.transaction() as tx:
                await Fence(tx, "a").check(token)
                await asyncio.sleep(seconds)
                await tx.execute("update accounts set balance = :token where id = 'a'", {"token": token})
                order.append(token)

        older = asyncio.create_task(write(1, 0.3))
        await asyncio.sleep(0.1)
        await write(2, 0.0)
        await older
        assert order == [1, 2]
        assert (await row(db))[0] == 2
        with pytest.raises(StaleToken):
            await write(1, 0.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"table": "accounts; drop table accounts"}, "table="),
        ({"table": ""}, "table="),
        ({"table": "a.b.c"}, "table="),
        ({"table": "accounts", "key": 'id" = 1 --'}, "key="),
        ({"table": "accounts", "fence": "x" * 64}, "fence="),
        ({"table": "accounts", "fence": None}, "fence="),
    ],
)
def test_names_of_tables_and_columns_are_checked(arguments: dict[str, Any], named: str) -> None:
    with holdfast.connect("sqlite:///:memory:") as db, pytest.raises(ConfigurationError, match=named):
        FencedTable(db, **arguments)


def test_names_of_changed_columns_are_checked() -> None:
    with holdfast.connect("sqlite:///:memory:") as db, pytest.raises(ConfigurationError, match="column='balance = 0"):
        FencedTable(db, "accounts").update("a", {"balance = 0 --": 1}, token=1)


@pytest.mark.parametrize("kind", [FencedTable, FencedValue])
def test_the_wrong_kind_of_store_names_the_right_guard(kind: Any) -> None:
    with holdfast.connect("memory://") as db, pytest.raises(ConfigurationError, match="use Fenced"):
        kind(db, "name")


def test_old_fences_are_tidied_away(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.locks.fencing.fence.PRUNE_ONE_IN", 1)
    with holdfast.connect(sql_url) as db:
        Fence(db, "old").check(1)
        past = "looked_at - 40 * 86400.0" if sql_url.startswith("sqlite") else "looked_at - interval '40 days'"
        db.execute(f"update holdfast_fence set looked_at = {past}")
        Fence(db, "new").check(1)
        assert db.execute("select resource from holdfast_fence") == [("new",)]


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def test_a_value_refuses_a_stale_holder(client: redis.Redis) -> None:
    value = FencedValue(client, "leader")
    assert value.read() is None
    value.write("node 1", token=5)
    value.write(b"\x00\xff", token=5)
    with pytest.raises(StaleToken) as caught:
        value.write("node 0", token=4)
    assert caught.value.facts == {"resource": "leader", "token": 4, "newest": 5}
    read = value.read()
    assert read is not None
    assert (read.value, read.token) == (b"\x00\xff", 5)


def test_a_value_may_end(client: redis.Redis) -> None:
    (key,) = (FencedValue(client, "x", ttl=100).write("1", token=1), *client.keys("*"))[1:]
    assert 99_000 < client.pttl(key) <= 100_000
    FencedValue(client, "x").write("2", token=2)
    assert client.pttl(key) == -1


async def test_a_value_for_asyncio(redis_url: str) -> None:
    async with holdfast.connect_async(redis_url) as db:
        value = FencedValue(db, "leader")
        await value.write("node 1", token=5)
        with pytest.raises(StaleToken):
            await value.write("node 0", token=4)
        read = await value.read()
        assert read is not None
        assert read.value == b"node 1"


# -- A holder that was paused -----------------------------------------------------------------------------------------

HOLDER = """
import json, sys, time
import holdfast
from holdfast.errors import StaleToken
from holdfast.locks import Fence, FencedFile, FencedTable, FencedValue, Lock

sql_url, redis_url, path = sys.argv[1:]
with holdfast.connect(sql_url) as db, holdfast.connect(redis_url) as store:
    lease = Lock(store, "ledger", ttl=0.5).acquire()
    print(json.dumps({"token": lease.token}), flush=True)
    sys.stdin.readline()                      # paused here, until long after the lease is over
    refused = {}
    def attempt(name, write):
        try:
            write()
        except StaleToken as error:
            refused[name] = [error.token, error.newest]
    def in_transaction():
        with db.transaction() as tx:
            Fence(tx, "ledger").check(lease.token)
            tx.execute("update accounts set balance = -1 where id = 'a'")
    attempt("transaction", in_transaction)
    attempt("table", lambda: FencedTable(db, "accounts").update("a", {"balance": -1}, token=lease.token))
    attempt("value", lambda: FencedValue(store, "ledger").write("stale", token=lease.token))
    attempt("file", lambda: FencedFile(path).write(b"stale", token=lease.token))
    print(json.dumps({"held": lease.held, "refused": refused}), flush=True)
"""


def test_a_holder_that_was_paused_beyond_its_lease_writes_nowhere(sql_url: str, redis_url: str, tmp_path: Path) -> None:
    """SIGSTOP, the lease ends, another writes, SIGCONT: every late write is refused, naming both tokens."""
    from holdfast.locks import FencedFile

    path = tmp_path / "report"
    command = [sys.executable, "-c", HOLDER, sql_url, redis_url, str(path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder,
        holdfast.connect(sql_url) as db,
        holdfast.connect(redis_url) as store,
    ):
        assert holder.stdout is not None
        assert holder.stdin is not None
        first = json.loads(holder.stdout.readline())["token"]
        holder.send_signal(signal.SIGSTOP)
        paused_at = time.monotonic()
        with Lock(store, "ledger", ttl=30) as lease:
            assert time.monotonic() - paused_at < 0.5 + 0.5
            with db.transaction() as tx:
                Fence(tx, "ledger").check(lease.token)
                tx.execute("update accounts set balance = 7 where id = 'a'")
            FencedTable(db, "accounts").update("a", {"balance": 7}, token=lease.token)
            FencedValue(store, "ledger").write("newer", token=lease.token)
            FencedFile(path).write(b"newer", token=lease.token)
            second = lease.token
        holder.send_signal(signal.SIGCONT)
        holder.stdin.write("\n")
        holder.stdin.flush()
        told = json.loads(holder.stdout.readline())
        assert told["held"] is False
        assert told["refused"] == {key: [first, second] for key in ["transaction", "table", "value", "file"]}
        assert db.execute("select balance from accounts") == [(7,)]
        read = FencedValue(store, "ledger").read()
        assert read is not None
        assert (read.value, path.read_bytes()) == (b"newer", b"newer")
