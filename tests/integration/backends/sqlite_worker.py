"""A process that works on a SQLite file until its time is over or it is killed; run as a program by the tests.

python sqlite_worker.py increase FILE SECONDS     adds one again and again; prints how often, and the longest wait
python sqlite_worker.py hold FILE SECONDS         begins a transaction, adds one, prints "held", and sleeps
"""

import sys
import time

import holdfast.backends
from holdfast.backends.sql import Query, Statement
from holdfast.backends.sqlite import SqliteSync
from tests.integration.backends.sql_backends import increase, increase_twice


def work(backend: SqliteSync, seconds: float) -> None:
    """Add two in one transaction and one by itself, in turns."""
    end, count, longest = time.monotonic() + seconds, 0, 0.0
    while (begun := time.monotonic()) < end:
        if count % 3:
            backend.query(increase())
            count += 1
        else:
            backend.atomic(increase_twice)
            count += 2
        longest = max(longest, time.monotonic() - begun)
    print(count, longest, flush=True)


def hold(backend: SqliteSync, seconds: float) -> None:
    """Keep a transaction open."""
    with backend.transaction() as tx:
        tx.query(increase())
        tx.query(Query(Statement("note", "insert into holdfast_counter values ('half', 1)"), {}))
        print("held", flush=True)
        time.sleep(seconds)


if __name__ == "__main__":
    what, file, seconds = sys.argv[1:]
    opened = holdfast.backends.connect(f"sqlite:///{file}", timeout=5.0)
    assert isinstance(opened, SqliteSync)
    {"increase": work, "hold": hold}[what](opened, float(seconds))
