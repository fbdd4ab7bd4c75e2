"""Problem documents from FastAPI and Starlette."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from holdfast.errors import BackendUnavailable, CircuitOpen, HoldfastError, RateLimited
from holdfast.web.fastapi import install


async def ask(app: Any, path: str = "/") -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


async def refuse(request: Request) -> None:
    raise RateLimited("slow down", retry_after=1.5)


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
async def test_an_error_in_a_route_becomes_a_problem_document(kind: Any) -> None:
    app = kind(routes=[Route("/", refuse)])
    install(app)
    answer = await ask(app)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.headers.get_list("content-type") == ["application/problem+json"]
    assert answer.json()["detail"] == "slow down"


async def test_an_error_in_a_dependency_too() -> None:
    app = FastAPI()
    install(app)

    def guard() -> None:
        raise CircuitOpen("open")

    from fastapi import Depends

    @app.get("/", dependencies=[Depends(guard)])
    def read() -> None: ...

    assert (await ask(app)).status_code == 503


async def test_an_error_of_the_store_is_hidden() -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    async def read() -> None:
        raise BackendUnavailable("10.0.0.7 refused", backend="redis://10.0.0.7", operation="take")

    answer = await ask(app)
    assert answer.status_code == 503
    assert "10.0.0.7" not in answer.text


async def test_the_applications_own_handler_goes_first() -> None:
    app = Starlette(routes=[Route("/", refuse)])
    install(app)

    async def own(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HoldfastError)
        return JSONResponse({"own": True}, 429)

    app.add_exception_handler(RateLimited, own)
    assert (await ask(app)).json() == {"own": True}
