"""A reader that follows all events misses none, while writers hold their transactions open."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import holdfast
from holdfast.backends import migrations
from holdfast.events import Event, EventStore, Position

WRITERS = 8
SECONDS = 3


def start_writer(url: str, number: int) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.integration.events_processes", "write", url, f"w{number}", str(SECONDS)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with the tables of events and one of the business."""
    address = f"sqlite:///{tmp_path}/events.db"
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_url")
    with holdfast.connect(address) as db:
        migrations.migrate(db)
        db.execute("create table business (name text)")
    return address


@pytest.mark.slow
def test_a_tailing_reader_misses_no_event(url: str) -> None:
    writers = [start_writer(url, number) for number in range(WRITERS)]
    seen: list[Event] = []
    naive: set[str] = set()
    naive_position = 0
    with holdfast.connect(url) as db:
        store = EventStore(db)
        cursor = Position.START
        quiet_since = time.monotonic()
        while any(writer.poll() is None for writer in writers) or time.monotonic() < quiet_since + 0.5:
            page = store.read_all(after=cursor, limit=100)
            if page:
                seen += page
                assert page[-1].position is not None
                cursor = page[-1].position
                quiet_since = time.monotonic()
            # What most home-made readers do; here to show that this test would notice.
            rows = db.execute(
                "select position, id from holdfast_event where position > :after order by position limit 100",
                {"after": naive_position},
            )
            naive.update(str(row[1]) for row in rows)
            naive_position = rows[-1][0] if rows else naive_position
        stored = db.execute("select count(*) from holdfast_event")[0][0]
    written = sum(int(writer.communicate()[0]) for writer in writers)
    assert all(writer.returncode == 0 for writer in writers)
    assert written == stored
    assert stored > 100  # however slow the machine: enough for writers to have met
    positions = [event.position for event in seen if event.position]
    assert positions == sorted(set(positions))
    assert len({event.id for event in seen}) == stored, f"{stored - len(seen)} of {stored} events were missed"
    if url.startswith("postgres"):
        assert len(naive) < stored, "the naive reader missed nothing, so this test shows nothing"
