"""Problem documents for any ASGI application: no framework is needed or imported."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from holdfast.errors import HoldfastError
from holdfast.web.problem import Problem, problem

__all__ = ["ProblemMiddleware"]

_logger = logging.getLogger("holdfast.web")
_SERVER_ERROR = 500
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class ProblemMiddleware:
    """Answer with a problem document (RFC 9457) when a `HoldfastError` escapes from `app`.

    Once a response has begun it cannot be taken back: then the error goes on to the server, which ends
    the connection. Other exceptions are never touched. Errors that become a status of 500 or above are
    logged on `holdfast.web` with their traceback, because nobody else will see them.

    Frameworks that answer exceptions themselves need their own spelling: see `holdfast.web.fastapi`.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except HoldfastError as error:
            if started:
                raise
            await _respond(logged(error), scope["method"], send)


def logged(error: HoldfastError) -> Problem:
    """Return the problem that describes `error`, and log it if the server is to blame."""
    described = problem(error)
    if described.status >= _SERVER_ERROR:
        _logger.error("answered %d: %s", described.status, error.code, exc_info=error)
    return described


async def _respond(described: Problem, method: str, send: Send) -> None:
    body = described.body()
    headers = [(name.encode(), value.encode()) for name, value in described.headers.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": described.status, "headers": headers})
    # RFC 9110, 9.3.2: the answer to HEAD has the fields of the answer to GET, and no content.
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
