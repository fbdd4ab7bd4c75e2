"""The whole way: a real server, real sockets, a framework behind the cache, and a real client."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from holdfast.edge import EdgeCache
from holdfast.errors import CircuitOpen, RateLimited
from holdfast.web.asgi import ProblemMiddleware
from holdfast.web.fastapi import install


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        # Bounded, so that a response that never ends fails its test and does not hang the run.
        await asyncio.wait_for(task, 15)
        listener.close()


class Shop:
    """A FastAPI application that counts how often each route ran."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.slow = asyncio.Event()
        self.slow.set()
        self.events: list[str] = []
        self.streams = 0
        self.all_ended = asyncio.Event()
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.get("/balance")(self.balance)
        self.app.post("/balance")(self.pay)
        self.app.get("/export")(self.export)
        self.app.get("/ticks")(self.ticks)
        self.app.get("/wait")(self.wait)
        self.app.get("/down")(self.down)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        self.events.append("closed")

    def _count(self, name: str) -> int:
        self.calls[name] = self.calls.get(name, 0) + 1
        return self.calls[name]

    async def balance(self, request: Request) -> dict[str, int]:
        number = self._count("balance")
        await self.slow.wait()
        self.events.append(f"balance {number}")
        return {"read": number}

    async def pay(self, request: Request) -> dict[str, int]:
        return {"paid": self._count("pay")}

    async def export(self) -> StreamingResponse:
        self._count("export")

        async def rows() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b"x" * 65_536

        return StreamingResponse(rows())

    async def ticks(self, kind: str, directive: str) -> StreamingResponse:
        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: tick\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self._ended()

        self.streams += 1
        self.all_ended.clear()
        return StreamingResponse(endless(), media_type=kind, headers={"cache-control": directive})

    async def wait(self, request: Request) -> dict[str, int]:
        self.streams += 1
        self.all_ended.clear()
        try:
            while not await request.is_disconnected():  # noqa: ASYNC110 - how Starlette wants it done
                await asyncio.sleep(0.01)
        finally:
            self._ended()
        return {}

    def _ended(self) -> None:
        self.streams -= 1
        if not self.streams:
            self.all_ended.set()

    async def down(self) -> None:
        raise CircuitOpen("circuit 'bank' is open", retry_after=2.2)


async def test_concurrent_clients_of_a_real_server_cost_one_call() -> None:
    shop = Shop()
    shop.slow.clear()
    async with serving(EdgeCache(shop.app, ttl=60)) as client:
        requests = [asyncio.create_task(client.get("/balance")) for _ in range(100)]
        await asyncio.sleep(0.3)  # a real network: all of them have arrived by then, or are hits
        shop.slow.set()
        answers = await asyncio.gather(*requests)
        hit = await client.get("/balance")
    assert {answer.text for answer in answers} == {'{"read":1}'}
    assert shop.calls == {"balance": 1}
    assert hit.headers["cache-status"].startswith("holdfast; hit; ttl=")
    assert hit.headers["age"] in {"0", "1"}
    assert hit.headers["content-type"] == "application/json"


async def test_a_payment_makes_the_next_reading_new() -> None:
    shop = Shop()
    async with serving(EdgeCache(shop.app, ttl=60)) as client:
        assert [(await client.get("/balance")).json()["read"] for _ in range(2)] == [1, 1]
        await client.post("/balance", json={"amount": 1})
        assert (await client.get("/balance")).json()["read"] == 2
        head = await client.head("/balance")
        assert (head.status_code, head.headers["content-length"]) == (200, "10")


async def test_a_body_of_four_megabytes_passes_through_whole_and_unstored() -> None:
    shop = Shop()
    async with serving(EdgeCache(shop.app, ttl=60)) as client:
        for _ in range(2):
            assert len((await client.get("/export")).content) == 64 * 65_536
    assert shop.calls == {"export": 2}


async def test_a_client_that_hangs_up_takes_nothing_from_the_others() -> None:
    shop = Shop()
    shop.slow.clear()
    async with serving(EdgeCache(shop.app, ttl=60)) as client:
        leaves = asyncio.create_task(client.get("/balance", timeout=0.4))
        await asyncio.sleep(0.1)
        stays = asyncio.create_task(client.get("/balance"))
        with pytest.raises(httpx.ReadTimeout):
            await leaves
        await asyncio.sleep(0.1)
        shop.slow.set()
        assert (await stays).json() == {"read": 1}


# The second may be stored as far as its head tells, so nobody knows yet that it has no end.
@pytest.mark.parametrize(
    ("kind", "directive"), [("text/event-stream", "no-store"), ("application/x-ndjson", "max-age=60")]
)
async def test_a_stream_ends_when_its_client_leaves(kind: str, directive: str) -> None:
    shop = Shop()
    async with serving(EdgeCache(shop.app)) as client:
        for number in range(3):
            params = {"kind": kind, "directive": directive, "number": number}
            async with client.stream("GET", "/ticks", params=params) as answer:
                assert await anext(answer.aiter_bytes()) == b"data: tick\n\n"
                assert shop.streams == 1
            await asyncio.wait_for(shop.all_ended.wait(), 5)


async def test_a_client_that_leaves_before_the_answer_began_ends_the_call() -> None:
    shop = Shop()
    async with serving(EdgeCache(shop.app, ttl=60)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/wait", timeout=0.2)
        await asyncio.wait_for(shop.all_ended.wait(), 5)


async def test_the_server_stops_at_once_after_the_clients_of_streams_left() -> None:
    shop = Shop()
    async with serving(EdgeCache(shop.app)) as client:
        for number in range(3):
            params = {"kind": "text/event-stream", "directive": "no-store", "number": number}
            async with client.stream("GET", "/ticks", params=params) as answer:
                await anext(answer.aiter_bytes())
        stopping_since = time.monotonic()
    assert time.monotonic() - stopping_since < 5
    assert shop.streams == 0


async def test_the_server_waits_for_a_refresh_before_the_application_closes() -> None:
    shop = Shop()
    cache = EdgeCache(shop.app, ttl=0.01, stale_while_revalidate=60)
    async with serving(cache) as client:
        await client.get("/balance")
        await asyncio.sleep(0.02)
        shop.slow.clear()
        assert (await client.get("/balance")).json() == {"read": 1}
        asyncio.get_running_loop().call_later(0.2, shop.slow.set)
    assert shop.events == ["balance 1", "balance 2", "closed"]


async def test_problem_documents_over_the_wire() -> None:
    shop = Shop()
    install(shop.app)

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/limited":
            raise RateLimited("slow down", retry_after=60)
        await shop.app(scope, receive, send)

    async with serving(ProblemMiddleware(EdgeCache(limited, ttl=60))) as client:
        answer = await client.get("/down")
        limit = await client.get("/limited")
    assert (limit.status_code, limit.headers["retry-after"]) == (429, "60")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "https://holdfast.dev/problems/circuit-open"
