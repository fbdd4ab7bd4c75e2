"""What reboots and clocks that are set do to records in a SQLite file."""

from pathlib import Path
from typing import Any

from holdfast.backends.sqlite import SqliteSync
from holdfast.idempotency import idempotent_execute, sqlite
from holdfast.idempotency.keys import identity
from holdfast.idempotency.store import Busy, Claim, Claimed
from holdfast.testing.clock import VirtualClock


def claim(owner: str) -> Claim:
    return Claim(
        identity=identity("", "/p", "key"),
        scope="",
        endpoint="/p",
        key="key",
        owner=owner,
        fingerprint="",
        lease=10.0,
        ttl=100.0,
    )


def asked(path: Path, clock: VirtualClock, owner: str) -> Any:
    with SqliteSync(str(path / "db"), clock=clock) as db:
        return db.run(sqlite.claim(claim(owner)))


def test_a_lease_does_not_outlive_a_reboot(tmp_path: Path) -> None:
    """Monotonic time starts again with a reboot; a lease from before it is over, not endless."""
    assert asked(tmp_path, VirtualClock(start=1_000_000.0), "before") == Claimed(1)
    assert asked(tmp_path, VirtualClock(start=30.0), "after") == Claimed(2)


def test_a_lease_is_not_shortened_by_a_clock_that_is_set(tmp_path: Path) -> None:
    """A day's jump of the wall clock takes no claim from a request that runs."""
    clock = VirtualClock()
    assert asked(tmp_path, clock, "first") == Claimed(1)
    clock.jump_wall(86_400.0)
    assert isinstance(asked(tmp_path, clock, "second"), Busy)
    clock.advance(10.0)
    assert asked(tmp_path, clock, "third") == Claimed(1)


def test_an_answer_outlives_a_reboot(tmp_path: Path) -> None:
    """Answers are kept by wall clock, which goes on while the machine is off."""
    with SqliteSync(str(tmp_path / "db"), clock=VirtualClock(start=500.0, started_at=1000.0)) as db:
        assert idempotent_execute(db, "key", "/p", lambda: "first", ttl=100.0) == "first"
    with SqliteSync(str(tmp_path / "db"), clock=VirtualClock(start=1.0, started_at=1099.0)) as db:
        assert idempotent_execute(db, "key", "/p", lambda: "second", ttl=100.0) == "first"
    with SqliteSync(str(tmp_path / "db"), clock=VirtualClock(start=2.0, started_at=1100.0)) as db:
        assert idempotent_execute(db, "key", "/p", lambda: "second", ttl=100.0) == "second"


def test_a_clock_that_is_set_does_not_refuse_an_answer(tmp_path: Path) -> None:
    """The wall clock jumps a day ahead while the function runs: nobody can have taken its transaction over."""
    clock = VirtualClock()

    def process() -> str:
        clock.jump_wall(86_400.0)
        return "done"

    with SqliteSync(str(tmp_path / "db"), clock=clock) as db:
        assert idempotent_execute(db, "key", "/p", process, ttl=100.0) == "done"
        assert idempotent_execute(db, "key", "/p", lambda: "again", ttl=100.0) == "done"
