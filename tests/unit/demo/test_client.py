"""The clients write down what they were answered, and ask again only where that can help."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from holdfast.demo.client import Attempt, Clients
from holdfast.demo.orders import Order
from holdfast.demo.settings import Addresses, Settings

SETTINGS = Settings(Path("nowhere"), Addresses("", "", "", provider_port=1, worker_ports=(2, 3)))


async def tried(answer: httpx.Response, order: Order | None = None) -> tuple[Attempt, httpx.Request]:
    """What the first payer of an order writes down, and what it sent."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answer

    clients = Clients(SETTINGS, [order or Order("o-1", "ann", 100, "free")])
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        _, payment = clients._payments[0]
        return await clients._try(http, payment, 2), requests[0]


@pytest.mark.parametrize("page", ["Internal Server Error", "[1, 2]", '"text"', "null"])
async def test_an_error_page_is_an_answer(page: str) -> None:
    """A 500 whose body is no JSON object is not taken for a killed worker."""
    attempt, _ = await tried(httpx.Response(500, text=page))
    assert attempt.status == 500
    assert attempt.body == {}


@pytest.mark.parametrize("account", ["Jörg", "日本", "per cent %41", "tab\u00a0less ", "a" * 200])
async def test_every_account_fits_into_the_header(account: str) -> None:
    """The API key is ASCII on the wire and the account's own name again in the service."""
    _, request = await tried(httpx.Response(201, json={}), Order("o-1", account, 100, "premium"))
    assert request.headers["x-api-key"].isascii()
    assert unquote(request.headers["x-api-key"]) == f"premium-{account}"


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_is_wrong_for_good_is_asked_once(status: int) -> None:
    """The payer gives up at once, and the try says why."""
    clients = Clients(SETTINGS, [Order("o-1", "ann", 100, "free")])
    _, payment = clients._payments[0]
    answer = httpx.Response(status, json={"type": "https://holdfast.dev/problems/wrong"})
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as http:
        await clients._pay(http, payment)
    assert clients.unsettled == [payment]
    assert [attempt.end for attempt in clients.attempts] == [f"{status} wrong"]


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, None])
def test_what_may_pass_is_asked_again(status: int | None) -> None:
    """Only a refusal that blames the client is hopeless."""
    _, payment = Clients(SETTINGS, [Order("o-1", "ann", 100, "free")])._payments[0]
    assert not Attempt(payment, 0.0, 1.0, status).hopeless


def test_the_quota_of_a_key_says_how_long_it_takes() -> None:
    """300 orders of one free account: 403 payments with those sent twice or by two, at 5/s after a burst of 8."""
    orders = [Order(f"f{number}", "ann", 100, "free") for number in range(300)]
    seconds, why = Clients(SETTINGS, orders).least_seconds
    assert seconds == pytest.approx((300 + 60 + 43 - 8) / 5)
    assert why == "at the free tier's rate, for account ann"


def test_the_pace_says_how_long_many_accounts_take() -> None:
    orders = [Order(f"o{number}", f"account-{number}", 100, "premium") for number in range(10_000)]
    seconds, why = Clients(SETTINGS, orders).least_seconds
    assert 200 < seconds < 400
    assert why == "at 25 orders a second"


async def test_a_payment_waits_for_its_quota_before_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patience grows with the payments of its key, and so do its pauses."""
    orders = [Order(f"f{number}", "ann", 100, "free") for number in range(300)]
    clients = Clients(SETTINGS, orders)
    _, payment = clients._payments[0]
    now, pauses = [0.0], list[float]()
    monkeypatch.setattr("holdfast.demo.client.time.monotonic", lambda: now[0])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("holdfast.demo.client.asyncio.sleep", sleep)
    refusal = httpx.Response(429, json={"retry_after": 0.5})
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: refusal)) as http:
        await clients._pay(http, payment)
    assert clients.unsettled == [payment]
    assert 60 + 79 <= now[0] < 60 + 79 + 6
    assert min(pauses) >= 0.5
    assert 2 < max(pauses) < 6
