"""The clients write down what they were answered, and ask again only where that can help."""

from __future__ import annotations

from pathlib import Path

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
