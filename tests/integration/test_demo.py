"""The main job: green as it is, and red in the right line without any one of its patterns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.demo.orders import SHIPPED
from holdfast.demo.provider import Provider
from holdfast.demo.settings import PATTERNS, Addresses, Settings

pytestmark = [
    # Each starts six processes of its own: one demo at a time.
    pytest.mark.xdist_group("demo"),
    pytest.mark.timeout(180),
]
FEW = 160
MOST_SECONDS = 60


def demo(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the demo as a user does, and return its exit code and what it printed."""
    command = [sys.executable, "-m", "holdfast", "demo", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout, done.stderr
    audit: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, audit


def red(audit: dict[str, Any]) -> dict[str, str]:
    """The lines that failed: pattern -> detail."""
    return {line["pattern"]: line["detail"] for line in audit["audit"] if line["verdict"] == "FAIL"}


def not_shown(audit: dict[str, Any]) -> dict[str, str]:
    """The lines that nothing put to the test: pattern -> detail."""
    return {line["pattern"]: line["detail"] for line in audit["audit"] if line["verdict"] == "not shown"}


@pytest.fixture(scope="module")
def few_orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the shipped orders, for the runs that only have to fail."""
    file = tmp_path_factory.mktemp("orders") / "few.csv"
    with SHIPPED.open() as lines:
        file.write_text("".join(islice(lines, FEW + 1)))
    return file


@pytest.fixture
def two_orders(tmp_path: Path) -> Path:
    """Two orders of two people."""
    file = tmp_path / "two.csv"
    file.write_text("order,account,amount,tier\no-1,ann,10.00,premium\no-2,bob,5.00,premium\n")
    return file


def test_the_books_balance_on_sqlite() -> None:
    """Every line is green, in under a minute, with the kills done that a line waits for, or more."""
    code, audit = demo()
    assert red(audit) == not_shown(audit) == {}
    assert code == 0
    assert audit["ok"] is True
    assert audit["seconds"] < MOST_SECONDS
    assert 3 <= audit["kills"] <= 6


def test_the_books_balance_on_redis_and_postgres(redis_server: object, postgres_server: object) -> None:
    """The same service, its stores changed by URL."""
    code, audit = demo("--backend", "redis+postgres")
    assert red(audit) == not_shown(audit) == {}
    assert code == 0


def test_what_orders_give_no_occasion_for_is_not_green(two_orders: Path) -> None:
    """Without the rate limit, two orders break no quota; the line says so, and what it takes, and does not fail."""
    code, audit = demo("--without", "ratelimit", "--orders", str(two_orders))
    assert "to show it takes more requests" in not_shown(audit)["ratelimit"]
    assert audit["seconds"] < 15
    assert red(audit) == {}
    assert code == 0


def test_names_of_every_alphabet_and_length_are_paid(tmp_path: Path) -> None:
    """A legal name passes every header, key, lock and stream on its way."""
    file = tmp_path / "names.csv"
    rows = [("1001", "Jörg"), ("n°2", "Ann"), ("ö" * 200, "日" * 200), ("4", "a%41-b c"), ("x" * 200, "y" * 200)]
    file.write_text("order,account,amount\n" + "".join(f"{order},{account},1.00\n" for order, account in rows))
    code, audit = demo("--orders", str(file))
    assert red(audit) == {}
    assert code == 0


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_is_missed(pattern: str, few_orders: Path) -> None:
    """Without it, its own line is red and the exit code is 1."""
    code, audit = demo("--without", pattern, "--orders", str(few_orders))
    assert pattern in red(audit), audit
    assert "to show it takes" not in red(audit)[pattern]
    if pattern == "outbox":
        assert "missing" in red(audit)[pattern]
    assert code == 1
    assert audit["ok"] is False


@contextlib.contextmanager
def running(*arguments: str, folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Yield a demo whose output is a pipe and whose files are in `folder`; it has ended after the block."""
    command = [sys.executable, "-m", "holdfast", "demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder)} if folder else None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """Return the lines that the demo prints up to the first that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    pytest.fail(f"the demo ended without {pattern!r}:\n{''.join(lines)}")


def test_a_service_that_is_kept_up_takes_new_payments(two_orders: Path) -> None:
    """After the audit, everybody behind the service still lives; Ctrl-C then ends it with the code of the audit."""
    with running("--serve", "--orders", str(two_orders)) as process:
        printed = "".join(read_until(process, "Ctrl-C ends it"))
        for number, base in enumerate(re.findall(r"serving (http://127.0.0.1:\d+)/docs", printed)):
            order = {"order": f"new-{number}", "account": "ann", "amount_cents": 100}
            headers = {"Idempotency-Key": f"new-{number}", "X-API-Key": "premium-ann"}
            answer = httpx.post(f"{base}/payments", json=order, headers=headers, timeout=20)
            assert answer.status_code == 201, answer.text
            assert answer.json()["order"] == f"new-{number}"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "the provider is down"),
        (signal.SIGTERM, "the provider is down"),
        (signal.SIGHUP, "2 workers"),
    ],
)
def test_a_signal_leaves_nothing_behind(number: signal.Signals, moment: str, tmp_path: Path) -> None:
    """No process, no file and no traceback stays, and the exit code names the signal."""
    with running(folder=tmp_path) as process:
        read_until(process, moment)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 128 + number
        assert f"holdfast: ended by {number.name} before the audit" in rest
        assert "Traceback" not in rest
        assert "never retrieved" not in rest
    assert list(tmp_path.iterdir()) == []
    assert processes_that_name(tmp_path) == []


def test_a_reader_that_goes_away_ends_the_demo(tmp_path: Path) -> None:
    """As `holdfast demo | head -2` does: nothing is left, and the exit code is not that of a red audit."""
    with running(folder=tmp_path) as process:
        read_until(process, "provider is down")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE
    assert list(tmp_path.iterdir()) == []
    assert processes_that_name(tmp_path) == []


def processes_that_name(folder: Path) -> list[str]:
    """Return the command lines that hold the folder's name, as those of the demo's processes do."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_text().replace("\0", " "))
    return [line for line in lines if str(folder) in line]


class Caller:
    """A request whose sender may hang up."""

    gone = False

    async def is_disconnected(self) -> bool:
        return self.gone


async def test_who_takes_the_place_of_a_caller_that_hung_up_is_no_flood(tmp_path: Path) -> None:
    """The provider notices a caller's end a moment late, and must not count both."""
    provider = Provider(Settings(tmp_path, Addresses("", "", "", provider_port=1, worker_ports=(2, 3))))
    callers: list[Any] = [Caller() for _ in range(8)]
    calls = [asyncio.create_task(provider.work(caller)) for caller in callers]
    await asyncio.sleep(0.15)  # by now all are counted, and none is done
    callers[0].gone = True
    successor: Any = Caller()
    await asyncio.gather(*calls, provider.work(successor))
    provider.ledger.close()
    assert provider.most_busy == 8
    assert provider.busy == 0


def test_every_pattern_has_a_line() -> None:
    """What can be left out is looked at by the audit, and shown in the help."""
    shown = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(name in shown and effect in shown for name, effect in PATTERNS.items())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("order,account\n1,a\n", "lacks amount"),
        ("order,account,amount\n", "line 1: it holds no orders"),
        ("order,account,amount\n1,a,ten\n", "line 2: amount='ten' is not legal"),
        ("order,account,amount\n1,a,1.005\n", "amount='1.005' is not legal"),
        ("order,account,amount\n1,a,-1\n", "amount='-1' is not legal"),
        ("order,account,amount\n1,a,1\n1,b,2\n", "order='1' is there twice"),
        ("order,account,amount,tier\n1,a,1,gold\n", "tier='gold' is not legal"),
        ("order,account,amount\n,a,1\n", "order must have 1 to 200 characters"),
    ],
)
def test_a_wrong_orders_file_is_refused_before_anything_starts(text: str, complaint: str, tmp_path: Path) -> None:
    """The error names the file, the line, the column and what is legal."""
    file = tmp_path / "orders.csv"
    file.write_text(text)
    command = [sys.executable, "-m", "holdfast", "demo", "--orders", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
