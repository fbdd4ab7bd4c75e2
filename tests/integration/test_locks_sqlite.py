"""What a reboot does to leases in a SQLite file: the monotonic clock starts again."""

from pathlib import Path

from holdfast.backends.sqlite import SqliteSync
from holdfast.locks import Lock
from holdfast.testing.clock import VirtualClock


def test_a_lease_of_before_a_reboot_is_over(tmp_path: Path) -> None:
    """Its holder is gone with the machine, so nobody waits for its TTL; and the next token is greater."""
    path = str(tmp_path / "holdfast.db")
    with SqliteSync(path, clock=VirtualClock(start=5000.0)) as backend:
        before = Lock(backend, "name", ttl=3600).acquire(timeout=0)
    with SqliteSync(path, clock=VirtualClock(start=20.0, started_at=1_700_000_100.0)) as backend:
        after = Lock(backend, "name", ttl=3600).acquire(timeout=0)
        assert after is not None
        assert after.extend()
    assert before is not None
    assert after.token > before.token


def test_a_wall_clock_that_jumps_changes_no_lease(tmp_path: Path) -> None:
    """Leases are timed by the monotonic clock alone, and tokens grow although the wall clock went back."""
    clock = VirtualClock()
    with SqliteSync(str(tmp_path / "holdfast.db"), clock=clock) as backend:
        first = Lock(backend, "name", ttl=10).acquire(timeout=0)
        clock.jump_wall(3600)
        assert Lock(backend, "name").acquire(timeout=0) is None
        clock.jump_wall(-7200)
        clock.advance(10)
        second = Lock(backend, "name").acquire(timeout=0)
    assert first is not None
    assert second is not None
    assert second.token > first.token
