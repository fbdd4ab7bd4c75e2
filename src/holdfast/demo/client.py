"""The clients: real HTTP requests, sent twice, by two payers at once, and tried again until answered.

Every try goes into `Attempt`s, which are the clients' side of the audit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from holdfast.demo.orders import Order
from holdfast.demo.settings import TIERS, Settings
from holdfast.idempotency import idempotency_key

__all__ = ["NO_ANSWER", "Attempt", "Clients", "Payment"]

# Longer than anything the service may take when all goes well, shorter than a provider that hangs twice.
CLIENT_TIMEOUT = 40.0
# Beyond what the quota of its key makes a payment wait.
GIVE_UP_AFTER = 60.0
LONGEST_PAUSE, SHARE_OF_QUOTA, MOST_DOUBLINGS = 1.0, 1 / 16, 16
PACE_SECONDS = 0.04
# Every so many orders: the request is sent twice at once; a second person pays the same order; a rush.
TWICE_EVERY, TWO_PAYERS_EVERY, RUSH_EVERY, RUSH_SIZE = 5, 7, 75, 32
READ_EVERY = 0.02
SETTLED, NO_ANSWER = "already-paid", "no answer"
# What the service refuses now and may do later: somebody else holds the order or the key, or the quota is used up.
PASSING = {httpx.codes.CONFLICT, httpx.codes.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True)
class Payment:
    """One person paying one order, with one idempotency key."""

    order: Order
    payer: str
    key: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request for a payment, as its client saw it. Times are monotonic seconds."""

    payment: Payment
    sent: float
    received: float
    status: int | None
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The last part of the problem type, or an empty text."""
        return str(self.body.get("type", "")).rpartition("/")[2]

    @property
    def final(self) -> bool:
        """Whether the order is paid, as far as this client is concerned."""
        return self.status == httpx.codes.CREATED or (self.status == httpx.codes.CONFLICT and self.code == SETTLED)

    @property
    def hopeless(self) -> bool:
        """Whether the same request can only get the same refusal: the client is wrong, says the service."""
        return self.status is not None and httpx.codes.is_client_error(self.status) and self.status not in PASSING

    @property
    def end(self) -> str:
        """How it ended, in a few words."""
        return NO_ANSWER if self.status is None else f"{self.status} {self.code}".rstrip()


class Clients:
    """Everybody who pays, and somebody who keeps looking at the balances."""

    def __init__(self, settings: Settings, orders: Sequence[Order]) -> None:
        self.attempts: list[Attempt] = []
        self.reads: int = 0
        self.reads_from_cache: int = 0
        self.settled: int = 0
        self.unsettled: list[Payment] = []
        self._payments = [
            (number, payment)
            for number, order in enumerate(orders)
            for payment in _payments(number, order, settings.seed)
        ]
        self._of_key = Counter(payment.order.api_key for _, payment in self._payments)
        self._ports = settings.addresses.worker_ports
        self._random = random.Random(settings.seed)

    @property
    def progress(self) -> float:
        """Share of payments that have their final answer, or were given up."""
        return (self.settled + len(self.unsettled)) / len(self._payments)

    @property
    def least_seconds(self) -> tuple[float, str]:
        """How long the payments take at least, and what takes so long."""
        paced = sum(not _in_a_rush(number) for number in {number for number, _ in self._payments}) * PACE_SECONDS
        slowest = max((payment.order for _, payment in self._payments), key=self._quota_seconds)
        return max(
            (paced, f"at {1 / PACE_SECONDS:g} orders a second"),
            (self._quota_seconds(slowest), f"at the {slowest.tier} tier's rate, for account {slowest.account[:24]}"),
        )

    def _quota_seconds(self, order: Order) -> float:
        """How long the quota of the order's API key makes its last payment wait."""
        tier = TIERS[order.tier]
        return max(0.0, self._of_key[order.api_key] - tier.capacity) / tier.refill_rate

    async def pay_all(self) -> None:
        """Send all payments at their pace and return when each has its final answer or was given up."""
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT, limits=limits) as http, asyncio.TaskGroup() as group:
            reading = group.create_task(self._read_balances(http))
            async with asyncio.TaskGroup() as payers:
                last = 0
                for number, payment in self._payments:
                    if number != last and not _in_a_rush(number):
                        await asyncio.sleep(PACE_SECONDS)
                    last = number
                    payers.create_task(self._pay(http, payment))
            reading.cancel()

    async def _pay(self, http: httpx.AsyncClient, payment: Payment) -> None:
        deadline = time.monotonic() + GIVE_UP_AFTER + self._quota_seconds(payment.order)
        tries = 0
        while time.monotonic() < deadline:
            attempt = await self._try(
                http, payment, self._ports[(tries + self._random.randrange(9)) % len(self._ports)]
            )
            self.attempts.append(attempt)
            if attempt.final:
                self.settled += 1
                return
            if attempt.hopeless:
                break
            tries += 1
            await asyncio.sleep(self._pause(attempt, tries))
        self.unsettled.append(payment)

    async def _try(self, http: httpx.AsyncClient, payment: Payment, port: int) -> Attempt:
        order = payment.order
        sent = time.monotonic()
        body = {"order": order.order, "account": payment.payer, "amount_cents": order.amount_cents}
        headers = {"Idempotency-Key": payment.key, "X-API-Key": quote(order.api_key, safe="")}
        try:
            answer = await http.post(f"http://127.0.0.1:{port}/payments", json=body, headers=headers)
        except httpx.TransportError:
            return Attempt(payment, sent, time.monotonic(), None)
        parsed = _parsed(answer)
        if "retry-after" in answer.headers:
            parsed.setdefault("retry_after", float(answer.headers["retry-after"]))
        return Attempt(payment, sent, time.monotonic(), answer.status_code, parsed)

    def _pause(self, attempt: Attempt, tries: int) -> float:
        """Full jitter, and never sooner than the service asked."""
        asked = attempt.body.get("retry_after") or 0.0
        # Who stands in a long line for the quota of one key would else be refused a hundred times.
        longest = max(LONGEST_PAUSE, self._quota_seconds(attempt.payment.order) * SHARE_OF_QUOTA)
        return float(asked) + self._random.uniform(0, min(longest, 0.05 * 2 ** min(tries, MOST_DOUBLINGS)))

    async def _read_balances(self, http: httpx.AsyncClient) -> None:
        while True:
            for port in self._ports:
                try:
                    answer = await http.get(f"http://127.0.0.1:{port}/balances")
                except httpx.TransportError:
                    continue
                if answer.status_code == httpx.codes.OK:
                    self.reads += 1
                    self.reads_from_cache += "; hit" in answer.headers.get("cache-status", "")
            await asyncio.sleep(READ_EVERY)


def _in_a_rush(number: int) -> bool:
    return number % RUSH_EVERY < RUSH_SIZE and number >= RUSH_EVERY


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    """The body, or an empty one: an error page is an answer, too, and its status is what counts."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _payments(number: int, order: Order, seed: int) -> Iterable[Payment]:
    """Everybody's request for one order: its payer's, perhaps sent twice, perhaps a friend's."""
    own = Payment(order, order.account, idempotency_key("pay", seed, order.order, order.account))
    yield own
    if number % TWICE_EVERY == 0:
        yield own
    if number % TWO_PAYERS_EVERY == 0:
        yield Payment(order, "friend", idempotency_key("pay", seed, order.order, "friend"))
