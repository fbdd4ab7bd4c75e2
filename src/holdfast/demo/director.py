"""The bad day: who is killed when, and when the provider is down.

Faults are set by progress, not by the clock, so a slow machine has the same day as a fast one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

from holdfast.demo.client import Clients
from holdfast.demo.processes import Fleet
from holdfast.demo.settings import Settings
from holdfast.demo.view import View

__all__ = ["Director"]

OUTAGE_SECONDS = 3.0
DOWN_SECONDS = 0.7
# How long to wait for a process to reach its worst moment: seldom so long, and shorter where it comes soon or never.
PATIENCE, UNDER_LOAD = 3.0, 0.5


class Act(NamedTuple):
    """Something that goes wrong when so much has been paid."""

    progress: float
    what: str
    carry_out: Callable[[], Awaitable[None]]


class Director:
    """Makes things go wrong, for real, and puts them right again."""

    def __init__(self, settings: Settings, processes: Fleet, clients: Clients, view: View) -> None:
        self.outage: tuple[float, float] = (0.0, 0.0)
        self.provider: str = "up"
        self.cut_at_the_worst: set[str] = set()
        self._settings = settings
        self._processes = processes
        self._clients = clients
        self._view = view

    async def run(self) -> None:
        """Carry out the whole day, as far as it can show anything."""
        acts = self._acts()
        for number, act in enumerate(acts):
            while self._clients.progress < act.progress:  # noqa: ASYNC110 - it is counted, not told
                await asyncio.sleep(0.02)
            if self._clients.progress == 1:
                left_out = ", ".join(each.what for each in acts[number:])
                self._view.say(f"left out, since with all paid they would show nothing: {left_out}")
                return
            await act.carry_out()

    def _acts(self) -> list[Act]:
        # What a line of the audit waits for comes first: a fast machine may be done before the last acts.
        acts = [
            Act(0.08, "the provider's outage", self._provider_outage),
            Act(0.22, "a kill of worker-1", lambda: self._kill_worker("worker-1")),
            Act(0.32, "a kill of the relay", self._kill_relay),
            Act(0.42, "a kill of the consumer", self._kill_consumer),
            Act(0.52, "a kill of worker-2", lambda: self._kill_worker("worker-2")),
            Act(0.62, "a kill of worker-1", lambda: self._kill_worker("worker-1")),
            Act(0.74, "a kill of the relay", self._kill_relay),
        ]
        if self._settings.uses("outbox"):
            return acts
        self._view.say("without an outbox the relay has nothing to do, so nobody kills it")
        return [act for act in acts if act.carry_out != self._kill_relay]

    async def _kill_worker(self, name: str) -> None:
        if self._settings.uses("outbox"):
            await self._power_cut(name)
        else:
            await self._power_cut_at_the_worst(name, "before publishing", patience=UNDER_LOAD)

    async def _kill_relay(self) -> None:
        await self._power_cut_at_the_worst("relay", "after publishing, before noting it")

    async def _kill_consumer(self) -> None:
        await self._power_cut_at_the_worst("consumer", "after booking, before saying so")

    async def _power_cut(self, name: str, when: str = "under load") -> None:
        member = self._processes.members[name]
        member.kill()
        self._view.say(f"{name} is killed (SIGKILL) {when}")
        await asyncio.sleep(DOWN_SECONDS)
        member.start()
        self._view.say(f"{name} is started again")

    async def _power_cut_at_the_worst(self, name: str, when: str, *, patience: float = PATIENCE) -> None:
        stall, stalled = (self._settings.folder / f"{state}-{name}" for state in ("stall", "stalled"))
        stall.touch()
        deadline = time.monotonic() + patience
        while not stalled.exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            if self._clients.progress == 1:
                deadline = min(deadline, time.monotonic() + UNDER_LOAD)
        reached = stalled.exists()
        if reached:
            self.cut_at_the_worst.add(name)
        stall.unlink()
        await self._power_cut(name, when if reached else "under load")
        stalled.unlink(missing_ok=True)

    async def _provider_outage(self) -> None:
        begin = time.monotonic()  # before it is: its first refusals come before its answer to this
        await self._switch_provider("on")
        self.provider = "DOWN"
        self._view.say(f"the provider is down for {OUTAGE_SECONDS:g} s")
        await asyncio.sleep(OUTAGE_SECONDS)
        await self._switch_provider("off")
        self.provider = "up"
        self.outage = (begin, time.monotonic())
        self._view.say("the provider is back")

    async def _switch_provider(self, state: str) -> None:
        async with httpx.AsyncClient() as http:
            await http.post(f"http://127.0.0.1:{self._settings.addresses.provider_port}/outage/{state}")
