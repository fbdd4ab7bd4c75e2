"""Calls without a deadline of their own: one at a time, and none waits for one that hangs for good."""

from __future__ import annotations

import threading
import time

import pytest

from holdfast.backends.redis import _background
from holdfast.backends.redis._background import Background


def test_who_comes_meanwhile_waits_for_the_same_run() -> None:
    go_on, runs = threading.Event(), []

    def run() -> int:
        runs.append(1)
        go_on.wait(30)
        return len(runs)

    background = Background(run)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            background(time.monotonic() + 0.01)
    go_on.set()
    assert background(time.monotonic() + 5) == 1
    assert runs == [1]


def test_a_run_that_hangs_for_good_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waits for is gone, and a new run may find another."""
    monkeypatch.setattr(_background, "PATIENCE", 0.02)
    go_on, runs = threading.Event(), []

    def run() -> int:
        runs.append(1)
        if len(runs) == 1:
            go_on.wait(30)
        return len(runs)

    background = Background(run)
    with pytest.raises(TimeoutError):
        background(time.monotonic() + 0.05)
    assert background(time.monotonic() + 5) == 2
    go_on.set()


def test_an_error_reaches_whoever_waits() -> None:
    def fail() -> None:
        raise ValueError("no master")

    with pytest.raises(ValueError, match="no master"):
        Background(fail)(time.monotonic() + 5)
