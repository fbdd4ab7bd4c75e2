"""Relays and consumers are killed at the worst moments; in the ledger every message is once, in order."""

import contextlib
import itertools
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.backends import migrations
from holdfast.events import DeadLetters, Outbox

MESSAGES = 200
KEYS = ["a", "b", "c"]
RELAY_DEATHS = ["marking:1", "marking:2", "marking:1", "marking:3"]
CONSUMER_DEATHS = ["handling:1", "acking:1", "handling:25", "handling:7", "acking:2", "handling:40"]


@pytest.fixture(params=["sqlite", "postgres", "sqlite+redis", "postgres+redis"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Database and broker: the broker in the same database, or Redis, which knows no duplicates."""
    kind, _, other = request.param.partition("+")
    database = f"sqlite:///{tmp_path}/events.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with holdfast.connect(database) as db:
        migrations.migrate(db)
        place = "integer primary key" if kind == "sqlite" else "serial primary key"
        db.execute(f"create table entry (place {place}, message_id text, key text, number bigint)")
        db.execute("create table expected (n bigint)")
        db.execute("insert into expected values (:n)", {"n": MESSAGES})
    return database, request.getfixturevalue("redis_url") if other else database


@contextlib.contextmanager
def process(program: str, urls: tuple[str, str], death: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of `events_processes`; it does not outlive the block."""
    started = subprocess.Popen([sys.executable, "-m", "tests.integration.events_processes", program, *urls, death])
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def run_and_die(program: str, urls: tuple[str, str], deaths: list[str]) -> None:
    """Run a program again and again: each time to its death, and at last to its end."""
    for death in deaths:
        with process(program, urls, death) as running:
            assert running.wait(timeout=30) == -signal.SIGKILL
    with process(program, urls, "-") as running:
        assert running.wait(timeout=30) == 0


def entries(database: str) -> list[tuple[str, str, int]]:
    with holdfast.connect(database) as db:
        assert DeadLetters(db).read() == []
        return [
            (row[0], row[1], row[2]) for row in db.execute("select message_id, key, number from entry order by place")
        ]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_message_has_its_effect_once_whoever_is_killed(urls: tuple[str, str]) -> None:
    dice = random.Random(7)
    with holdfast.connect(urls[0]) as db:
        outbox = Outbox(db)
        sent = [(dice.choice(KEYS), number) for number in range(MESSAGES)]
        for key, number in sent:
            outbox.add("entries", number, key=key, message_id=f"m-{number}")
    run_and_die("relay", urls, RELAY_DEATHS)
    run_and_die("consume", urls, CONSUMER_DEATHS)
    ledger = entries(urls[0])
    assert sorted(number for _, _, number in ledger) == list(range(MESSAGES))
    for wanted in KEYS:
        numbers = [number for _, key, number in ledger if key == wanted]
        assert numbers == sorted(numbers), f"key {wanted} is out of order"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("urls", ["sqlite", "postgres"], indirect=True)
def test_several_consumers_of_one_name_keep_the_ledger_while_they_are_killed(urls: tuple[str, str]) -> None:
    with holdfast.connect(urls[0]) as db:
        outbox = Outbox(db)
        for number in range(MESSAGES):
            outbox.add("entries", number, key=KEYS[number % 3], message_id=f"m-{number}")
    run_and_die("relay", urls, [])
    with contextlib.ExitStack() as stack:
        rivals = [stack.enter_context(process("consume", urls, "-")) for _ in range(2)]
        for death in itertools.islice(CONSUMER_DEATHS, 3):
            # It dies, or the rivals are so fast that nothing is left to die over.
            mortal = stack.enter_context(process("consume", urls, death))
            assert mortal.wait(timeout=30) in (0, -signal.SIGKILL)
        for rival in rivals:
            assert rival.wait(timeout=30) == 0
    ledger = entries(urls[0])
    assert sorted(number for _, _, number in ledger) == list(range(MESSAGES))
    for wanted in KEYS:
        numbers = [number for _, key, number in ledger if key == wanted]
        assert numbers == sorted(numbers), f"key {wanted} is out of order"
