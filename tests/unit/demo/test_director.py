"""The bad day goes as far as it can show anything."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.demo.director import Director
from holdfast.demo.settings import Addresses, Settings
from holdfast.demo.view import View

SETTINGS = Settings(Path("nowhere"), Addresses("", "", "", provider_port=1, worker_ports=(2, 3)))


class Payers:
    """Clients of whom so many have paid."""

    def __init__(self, progress: float) -> None:
        self.progress = progress


class Day(Director):
    """A day whose acts are only noted; everybody has paid after so many of them."""

    def __init__(self, settings: Settings, acts_until_paid: int) -> None:
        self.out = io.StringIO()
        self.done: list[str] = []
        self._until_paid = acts_until_paid
        nobody: Any = None
        payers: Any = Payers(1.0 if acts_until_paid == 0 else 0.99)
        super().__init__(settings, nobody, payers, View(self.out))

    def note(self, what: str) -> None:
        """One more act is done."""
        self.done.append(what)
        if len(self.done) == self._until_paid:
            self._clients.progress = 1.0  # type: ignore[misc]

    async def _provider_outage(self) -> None:
        self.note("outage")

    async def _power_cut(self, name: str, when: str = "") -> None:
        self.note(name)

    async def _power_cut_at_the_worst(self, name: str, when: str, *, patience: float = 0) -> None:
        self.note(f"{name} at the worst")


async def test_with_enough_orders_everything_goes_wrong() -> None:
    day = Day(SETTINGS, acts_until_paid=7)
    await day.run()
    assert day.done == [
        "outage",
        "worker-1",
        "relay at the worst",
        "consumer at the worst",
        "worker-2",
        "worker-1",
        "relay at the worst",
    ]
    assert day.out.getvalue() == ""


@pytest.mark.parametrize("acts", [0, 1, 3])
async def test_when_all_is_paid_the_rest_is_left_out_and_named(acts: int) -> None:
    """Killing idle processes takes time and shows nothing."""
    day = Day(SETTINGS, acts_until_paid=acts)
    await day.run()
    assert len(day.done) == acts
    assert "left out, since with all paid they would show nothing: " in day.out.getvalue()
    assert "a kill of worker-2, a kill of worker-1, a kill of the relay" in day.out.getvalue()


async def test_without_an_outbox_the_workers_are_cut_at_the_worst() -> None:
    """It is they who publish then, and the relay, which has nothing to do, is left alone."""
    day = Day(replace(SETTINGS, without=frozenset({"outbox"})), acts_until_paid=5)
    await day.run()
    workers = ["worker-1 at the worst", "worker-2 at the worst", "worker-1 at the worst"]
    assert day.done == ["outage", workers[0], "consumer at the worst", *workers[1:]]
    assert "the relay has nothing to do" in day.out.getvalue()


async def test_the_outage_spans_every_moment_in_which_the_provider_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is down before it has said so, and up when it has: what it refuses meanwhile belongs to the outage."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("holdfast.demo.director.time.monotonic", lambda: now[0])
    monkeypatch.setattr("holdfast.demo.director.asyncio.sleep", sleep)
    nobody: Any = None
    director = Director(SETTINGS, nobody, nobody, View(io.StringIO()))

    async def slowly(_: str) -> None:
        now[0] += 1.0

    monkeypatch.setattr(director, "_switch_provider", slowly)
    await director._provider_outage()
    assert director.outage == (0.0, 5.0)
