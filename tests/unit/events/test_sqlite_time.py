"""SQLite has the machine's clock: it goes on while a table is looked through, and starts again with a reboot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.backends.sqlite import SqliteSync
from holdfast.events import Outbox, Position
from holdfast.events import sqlite as carrier


class Ticking:
    """A clock that goes on by a second whenever somebody looks at it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds

    def wall(self) -> float:
        return 1.7e9


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteSync]:
    with SqliteSync(str(tmp_path / "a.db"), clock=Ticking()) as backend:
        yield backend


def test_a_key_that_is_held_up_is_held_up_as_a_whole(db: SqliteSync) -> None:
    """Otherwise its last messages overtake the others when the pause ends in the middle of a look."""
    outbox = Outbox(db)
    for number in range(40):
        outbox.add("t", number, key="a")
    (first, *_) = carrier.outbox.batch(1, 60.0).carry(db)
    carrier.outbox.refuse(first.number, 20.0).carry(db)
    assert carrier.outbox.batch(100, 60.0).carry(db) == []


def test_leases_end_with_a_reboot(db: SqliteSync) -> None:
    """What held one before is gone, and its clock said something else."""

    def claims() -> list[object]:
        asked = carrier.outbox.claim("new", 5.0), carrier.queue.claim("t", "s", "new", 5.0)
        return [request.carry(db) for request in asked]

    carrier.outbox.claim("old", 60.0).carry(db)
    carrier.queue.claim("t", "s", "old", 60.0).carry(db)
    assert claims() == [False, None]
    assert isinstance(db.clock, Ticking)
    db.clock.seconds = 1.0
    assert claims() == [True, Position.START]
