"""ProblemMiddleware in front of plain ASGI applications."""

import json
import logging
from typing import Any

import pytest

from holdfast.errors import ConfigurationError, HoldfastError, KeyReused
from holdfast.web.asgi import ProblemMiddleware


async def ask(app: Any, method: str = "GET") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await ProblemMiddleware(app)({"type": "http", "method": method}, receive, send)
    return sent


def raising(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


async def test_an_error_becomes_a_problem_document() -> None:
    start, body = await ask(raising(KeyReused("the key was used for another payload")))
    headers = dict(start["headers"])
    assert start["status"] == 422
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert json.loads(body["body"])["detail"] == "the key was used for another payload"


async def test_head_gets_the_fields_without_the_content() -> None:
    start, body = await ask(raising(KeyReused("x")), "HEAD")
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""


async def test_an_error_after_the_response_began_goes_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyReused("late")

    with pytest.raises(KeyReused, match="late"):
        await ask(app)


async def test_other_exceptions_are_not_touched() -> None:
    with pytest.raises(ZeroDivisionError):
        await ask(raising(ZeroDivisionError()))


async def test_what_is_hidden_from_the_client_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "holdfast.web"):
        _, body = await ask(raising(ConfigurationError("ttl=-1 is not legal")))
    assert b"ttl" not in body["body"]
    assert "ttl=-1 is not legal" in caplog.text


async def test_mistakes_of_clients_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await ask(raising(KeyReused("x")))
    assert not caplog.records


async def test_no_error_can_smuggle_a_header() -> None:
    attack = "a\r\nset-cookie: a=b\r\n\r\n<script>"
    kind = type("Odd", (HoldfastError,), {"code": attack, "title": attack, "retry_after": attack})
    start, _ = await ask(raising(kind(attack, fact=attack)))
    for name, value in start["headers"]:
        assert b"\r" not in name + value
        assert b"\n" not in name + value


async def test_other_connections_pass() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await ProblemMiddleware(app)({"type": kind}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan", "websocket"]
