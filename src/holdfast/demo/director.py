"""The bad day: who is killed when, and when the provider is down.

Faults are set by progress, not by the clock, so a slow machine has the same day as a fast one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from holdfast.demo.client import Clients
from holdfast.demo.processes import Fleet
from holdfast.demo.settings import Settings
from holdfast.demo.view import View

__all__ = ["Director"]

OUTAGE_SECONDS = 3.0
DOWN_SECONDS = 0.7
# How long to wait for a process to reach its worst moment. A worker has one only without an outbox.
PATIENCE, UNDER_LOAD = 3.0, 0.5


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
        """Carry out the whole day."""
        acts: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.08, self._provider_outage),
            (0.22, lambda: self._power_cut_at_the_worst("worker-1", "before publishing", patience=UNDER_LOAD)),
            (0.32, lambda: self._power_cut_at_the_worst("relay", "after publishing, before noting it")),
            (0.42, lambda: self._power_cut_at_the_worst("worker-2", "before publishing", patience=UNDER_LOAD)),
            (0.52, lambda: self._power_cut_at_the_worst("worker-1", "before publishing", patience=UNDER_LOAD)),
            (0.62, lambda: self._power_cut_at_the_worst("consumer", "after booking, before saying so")),
            (0.74, lambda: self._power_cut_at_the_worst("relay", "after publishing, before noting it")),
        ]
        for progress, act in acts:
            while self._clients.progress < progress:  # noqa: ASYNC110 - it is counted, not told
                await asyncio.sleep(0.02)
            await act()

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
        while not stalled.exists() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.01)
        reached = stalled.exists()
        if reached:
            self.cut_at_the_worst.add(name)
        stall.unlink()
        await self._power_cut(name, when if reached else "under load")
        stalled.unlink(missing_ok=True)

    async def _provider_outage(self) -> None:
        await self._switch_provider("on")
        begin = time.monotonic()
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
