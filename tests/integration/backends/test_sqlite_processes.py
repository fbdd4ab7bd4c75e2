"""Several real processes on one SQLite file: nothing lost, nobody starved, a killed one leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import holdfast.backends
from holdfast.backends.sqlite import SqliteSync
from holdfast.errors import BackendUnavailable
from tests.integration.backends.sql_backends import increase, stored, value

ROOT = Path(__file__).parents[3]


def worker(what: str, file: Path, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.backends.sqlite_worker", what, str(file), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def holding(file: Path, seconds: float) -> "subprocess.Popen[str]":
    process = worker("hold", file, seconds)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_processes_lose_nothing_and_none_waits_beyond_its_deadline(tmp_path: Path) -> None:
    file = tmp_path / "test.db"
    processes = [worker("increase", file, 1.5) for _ in range(4)]
    answers = [process.communicate(timeout=30)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    counts = [int(count) for count, _ in answers]
    assert stored(f"sqlite:///{file}") == sum(counts)
    assert min(counts) > 0
    assert max(float(longest) for _, longest in answers) < 5.0


def test_a_process_killed_in_a_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    with holdfast.backends.connect(url) as backend:
        assert increase().carry(backend) == 1
        process = holding(tmp_path / "test.db", 60)
        process.kill()
        process.communicate()
        assert increase().carry(backend) == 2
        assert value("half").carry(backend) is None


def test_a_lock_that_is_held_too_long_is_a_refusal_within_the_deadline(tmp_path: Path) -> None:
    with holdfast.backends.connect(f"sqlite:///{tmp_path / 'test.db'}") as backend:
        increase().carry(backend)
    process = holding(tmp_path / "test.db", 60)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with holdfast.backends.connect(f"sqlite:///{tmp_path / 'test.db'}", timeout=0.3) as backend:
            begun = time.monotonic()
            with pytest.raises(BackendUnavailable, match=r"write lock for 0\.3 s"):
                increase().carry(backend)
            assert 0.3 <= time.monotonic() - begun < 0.6
            assert value().carry(backend) == 1  # readers do not wait for writers
    finally:
        process.kill()
        process.communicate()


def test_threads_of_one_process_write_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    backend = SqliteSync(str(tmp_path / "test.db"))
    order: list[int] = []

    def write(number: int) -> None:
        with backend.transaction():
            order.append(number)

    with backend.transaction():
        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            while len(backend.database.turn._waiters) < waiting:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    backend.close()


def test_threads_share_a_memory_database(tmp_path: Path) -> None:
    with holdfast.backends.connect("sqlite:///:memory:") as backend:
        threads = [threading.Thread(target=lambda: [increase().carry(backend) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert value().carry(backend) == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_works_on_connections_of_its_own(tmp_path: Path) -> None:
    backend = SqliteSync(str(tmp_path / "test.db"))
    backend.query(increase())
    inherited = backend.database._idle[0]
    backend.database.turn.take(1.0)  # as if another thread were writing while this one forks
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fresh = backend.query(increase()) == 2 and backend.database._idle[0] is not inherited
            code = 0 if fresh else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    backend.database.turn.give(None)
    assert backend.query(increase()) == 3
    backend.close()
