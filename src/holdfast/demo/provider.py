"""A payment provider that is not ours: another process, its own ledger, and bad days.

Like real ones it remembers idempotency keys, has hiccups, hangs, loses answers after having charged,
and has an outage. Like real ones it charges whoever asks with a new key, also for an order that has
been paid: protecting an order from two payers is the service's job. The one thing it does for that is
fencing: it refuses a call for an order once it has seen a newer token, so that a call which hung for
longer than its caller held the lock can no longer charge.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from holdfast.demo.settings import HANG_SECONDS, Settings
from holdfast.errors import StaleToken
from holdfast.locks import FenceGuard

__all__ = ["create_app"]

WORK_SECONDS = (0.2, 0.4)
# While the clients rush it has a slow spell, so that calls pile up on every machine: keys from and to, of so many.
SLOW_SECONDS = (0.6, 0.8)
SLOW_FROM, SLOW_TO, SLOW_OF = 75, 125, 170
LOOK_EVERY = 0.02
# Who hung up is noticed at the next look. The call that takes its place, perhaps at once, is counted from a later look
# of its own on, so that the two are never counted side by side.
COUNTED_AT = 3
# Of so many first tries one goes wrong in this way, counted so that small runs have bad luck, too.
ONE_HANGS_IN, ONE_IS_LOST_IN, ONE_HICCUP_IN = 25, 33, 10
FIRST_HANG, FIRST_LOST, FIRST_HICCUP = 3, 7, 5


@dataclass(frozen=True, slots=True)
class Charge:
    """Money taken."""

    charge: str
    key: str
    order: str
    account: str
    amount_cents: int

    def as_json(self) -> dict[str, object]:
        """The charge as the provider shows it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Ledger:
    """The provider's own books: an append-only file, which the audit reads."""

    def __init__(self, file: Path) -> None:
        self._file: IO[str] = file.open("a", encoding="utf-8", buffering=1)
        self._by_key: dict[str, Charge] = {}
        self._by_order: dict[str, Charge] = {}

    def write(self, **entry: object) -> None:
        """Add a line."""
        self._file.write(json.dumps({"at": time.time(), **entry}) + "\n")

    def close(self) -> None:
        """Close the file; every line is in it already."""
        self._file.close()

    def of_key(self, key: str) -> Charge | None:
        """The charge made with this key."""
        return self._by_key.get(key)

    def of_order(self, order: str) -> Charge | None:
        """The first charge for this order."""
        return self._by_order.get(order)

    def charge(self, *, key: str, order: str, account: str, amount_cents: int) -> Charge:
        """Take the money."""
        charge = Charge(f"ch_{len(self._by_key) + 1:06d}", key, order, account, amount_cents)
        self._by_key[key] = charge
        self._by_order.setdefault(order, charge)
        self.write(event="charge", **charge.as_json())
        return charge


class Provider:
    """The state of the provider's day."""

    def __init__(self, settings: Settings) -> None:
        self.ledger: Ledger = Ledger(settings.folder / "provider.jsonl")
        self.random: random.Random = random.Random(settings.seed)
        self.down = False
        self.calls_while_down = 0
        self.busy: int = 0
        self.most_busy: int = 0
        self.longest_wait: float = 0.0
        self._seen: set[str] = set()
        self._guards: dict[str, FenceGuard] = {}
        self.fenced_off: int = 0
        self.moods: Counter[str] = Counter()

    def mood(self, key: str) -> str:
        """How this call goes. Only the first try of a key can go wrong, so a retry always helps."""
        if key in self._seen:
            return "fine"
        self._seen.add(key)
        number = len(self._seen)
        if number % ONE_HANGS_IN == FIRST_HANG:
            return "hang"
        if number % ONE_IS_LOST_IN == FIRST_LOST:
            return "lost"
        if number % ONE_HICCUP_IN == FIRST_HICCUP:
            return "hiccup"
        return "slow" if SLOW_FROM <= number % SLOW_OF < SLOW_TO else "fine"

    def sees(self, key: str) -> str:
        """Decide how this call goes, and note it."""
        mood = self.mood(key)
        self.moods[mood] += 1
        return mood

    async def work(self, request: Request, *, slow: bool = False) -> None:
        """Take the time that a charge takes, and count who waits for it."""
        end = time.monotonic() + self.random.uniform(*(SLOW_SECONDS if slow else WORK_SECONDS))
        looks = 0
        try:
            while (time.monotonic() < end or looks < COUNTED_AT) and not await request.is_disconnected():
                looks += 1
                if looks == COUNTED_AT:
                    self.busy += 1
                    self.most_busy = max(self.most_busy, self.busy)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self.busy -= looks >= COUNTED_AT
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def hang(self, request: Request) -> None:
        """Take very long, and note for how long the caller waits for it."""
        begin = time.monotonic()
        while (waited := time.monotonic() - begin) < HANG_SECONDS and not await request.is_disconnected():
            self.longest_wait = max(self.longest_wait, waited)
            await asyncio.sleep(LOOK_EVERY)
        await asyncio.sleep(HANG_SECONDS - waited)

    def fence(self, order: str, token: int | None) -> None:
        """Refuse callers whose lock on this order has gone to somebody else."""
        if token is None:
            return
        try:
            self._guards.setdefault(order, FenceGuard(order)).check(token)
        except StaleToken:
            self.fenced_off += 1
            raise

    def figures(self) -> dict[str, object]:
        """What the audit asks."""
        names = ("calls_while_down", "most_busy", "longest_wait", "down", "fenced_off")
        return {name: getattr(self, name) for name in names} | {"moods": dict(self.moods)}


def create_app(settings: Settings) -> FastAPI:
    """The provider's API."""
    provider = Provider(settings)
    app = FastAPI()

    @app.exception_handler(StaleToken)
    async def stale(_: Request, error: StaleToken) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    @app.get("/charges")
    async def find(order: str, fencing_token: int | None = Header(None)) -> JSONResponse:
        if provider.down:
            provider.calls_while_down += 1
            return JSONResponse({"error": "maintenance"}, 503)
        provider.fence(order, fencing_token)
        charge = provider.ledger.of_order(order)
        return JSONResponse(charge.as_json() if charge else {}, 200 if charge else 404)

    @app.post("/charges")
    async def charge(
        request: Request, idempotency_key: str = Header(), fencing_token: int | None = Header(None)
    ) -> JSONResponse:
        if provider.down:
            provider.calls_while_down += 1
            return JSONResponse({"error": "maintenance"}, 503)
        return await _charge(provider, request, idempotency_key, fencing_token)

    @app.post("/outage/{state}")
    async def outage(state: str) -> dict[str, object]:
        provider.down = state == "on"
        provider.ledger.write(event="outage", state=state)
        return provider.figures()

    @app.get("/figures")
    async def figures() -> dict[str, object]:
        return provider.figures()

    return app


async def _charge(provider: Provider, request: Request, key: str, token: int | None) -> JSONResponse:
    body = await request.json()
    mood = provider.sees(key)
    if mood == "hiccup":
        return JSONResponse({"error": "try again"}, 503)
    if mood == "hang":
        await provider.hang(request)
    else:
        await provider.work(request, slow=mood == "slow")
    # Nothing is awaited from here on: the look at the token and the charge are one step.
    provider.fence(body["order"], token)
    charge = provider.ledger.of_key(key)
    if charge is None:
        charge = provider.ledger.charge(
            key=key, order=body["order"], account=body["account"], amount_cents=body["amount_cents"]
        )
    if mood == "lost":
        # Charged, but the answer is lost on the way: the caller sees a gateway's error page.
        return JSONResponse({"error": "bad gateway"}, 502)
    return JSONResponse(charge.as_json(), 201)
