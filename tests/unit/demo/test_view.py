"""What is shown while the demo runs."""

from __future__ import annotations

import io

import pytest

from holdfast.demo.view import ERASE_TWO_LINES, Snapshot, View, explained

SNAPSHOT = Snapshot(
    progress=0.5,
    requests=1234,
    repeated=1000,
    refused=100,
    failed=900,
    breakers=("half_open", "closed"),
    backlog=12,
    kills=3,
    provider="DOWN",
)


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_told_once() -> None:
    """The view falls silent, and whoever runs the demo can end it."""
    gone: list[str] = []
    view = View(Broken(), nobody_reads=lambda: gone.append("gone"))
    view.say("hello")
    view.say("is anybody there?")
    view.end()
    assert gone == ["gone"]


@pytest.fixture(params=[20, 60, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How wide the terminal is."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def test_live_lines_never_wrap(columns: int) -> None:
    """What wraps is longer than the two lines that are erased, and its rest stays on the screen for good."""
    terminal = Terminal()
    view = View(terminal)
    view.show(SNAPSHOT)
    view.show(SNAPSHOT)
    first, second = terminal.getvalue().split(ERASE_TWO_LINES)
    for shown in (first, second):
        assert shown.count("\n") == 1
        assert all(0 < len(line) < columns for line in shown.split("\n"))


def test_failed_tries_are_explained() -> None:
    """What is counted as failed in the live view is told apart at the end."""
    counts = {"no answer": 900, "503 circuit-open": 160, "502 provider-failed": 15, "500": 1}
    assert explained(counts) == (
        "900 had no answer (the worker was killed), 160 met an open circuit, "
        "15 failed at the provider, 1 ended with 500"
    )
