"""A process that is killed or frozen in the middle of its work: the retry leaves exactly one effect."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import backends
from holdfast.backends import migrations
from tests.integration import idempotent_worker

FOR_EVER = 60.0


class World:
    """A database and the workers on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.workers: list[subprocess.Popen[str]] = []
        with backends.connect(url) as db:
            backend: Any = db
            if backend.dialect == "postgres":
                migrations.migrate(backend)
            backend.execute("create table effect (name text)")
            backend.execute("create table charge (name text primary key)")

    def work(self, key: str, mode: str, *, hold: float = 0.0) -> subprocess.Popen[str]:
        """Start a worker and wait until it is in the middle."""
        command = [sys.executable, idempotent_worker.__file__, self.url, key, mode, str(hold)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        return worker

    def rows(self, table: str) -> list[str]:
        with backends.connect(self.url) as db:
            backend: Any = db
            return [row[0] for row in backend.execute(f"select name from {table} order by name")]


def lines(worker: subprocess.Popen[str]) -> list[str]:
    printed, _ = worker.communicate(timeout=40)
    assert worker.returncode == 0
    return printed.split()


def until_inside(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline() == "inside\n"


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    world = World(url)
    yield world
    for worker in world.workers:
        worker.kill()
        worker.communicate()


def test_killed_in_its_transaction_leaves_nothing_and_the_retry_one_effect(world: World) -> None:
    for trial in range(3):
        key = f"killed-{trial}"
        first = world.work(key, "transaction", hold=FOR_EVER)
        until_inside(first)
        first.kill()
        first.wait()
        assert lines(world.work(key, "transaction")) == ["inside", "done"]
        assert lines(world.work(key, "transaction")) == ["done"]
    assert world.rows("effect") == ["killed-0", "killed-1", "killed-2"]


def test_a_retry_beside_a_running_transaction_waits_and_is_taken_up_when_it_is_killed(world: World) -> None:
    first = world.work("k", "transaction", hold=FOR_EVER)
    until_inside(first)
    second = world.work("k", "transaction")
    time.sleep(0.5)
    assert second.poll() is None
    first.kill()
    assert lines(second) == ["inside", "done"]
    assert world.rows("effect") == ["k"]


def test_killed_under_a_lease_is_taken_over_when_it_is_over(world: World) -> None:
    """The provider is asked twice with one key, so it charges once; ledger and answer are written once."""
    first = world.work("k", "lease", hold=FOR_EVER)
    until_inside(first)
    time.sleep(idempotent_worker.LEASE * 1.5)  # its heartbeat keeps the claim
    second = world.work("k", "lease")
    time.sleep(0.3)
    assert second.poll() is None
    killed = time.monotonic()
    first.kill()
    assert lines(second) == ["inside", "done"]
    assert time.monotonic() - killed < idempotent_worker.LEASE + 1.0
    assert lines(world.work("k", "lease")) == ["done"]
    assert (len(world.rows("charge")), world.rows("effect")) == (1, ["k done"])


def test_frozen_under_a_lease_is_refused_when_it_wakes_up(world: World) -> None:
    """The first request stands still for longer than its lease; its late answer and effects are refused."""
    first = world.work("k", "lease", hold=0.2)
    until_inside(first)
    first.send_signal(signal.SIGSTOP)
    assert lines(world.work("k", "lease")) == ["inside", "done"]
    first.send_signal(signal.SIGCONT)
    assert lines(first) == ["stale"]
    assert (len(world.rows("charge")), world.rows("effect")) == (1, ["k done"])
