"""Drive an ASGI application by hand, as a server does, with a clock that stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from holdfast.edge import EdgeCache

WALL_AT_ZERO = 1_700_000_000.0


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL_AT_ZERO + self.now


@dataclass
class Answer:
    status: int = 0
    lines: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    chunks: int = 0
    complete: bool = False

    def header(self, name: str) -> str | None:
        values = [value.decode() for key, value in self.lines if key == name.encode()]
        return ", ".join(values) if values else None

    @property
    def cache(self) -> str:
        return self.header("cache-status") or ""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.lines = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.chunks += 1
            self.complete = not message.get("more_body", False)


def make_scope(path: str = "/", method: str = "GET", headers: dict[str, str] | None = None) -> dict[str, Any]:
    path, _, query = path.partition("?")
    lines = [(b"host", b"shop.test")]
    lines += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": lines,
    }


async def no_content() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ask(app: Any, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    answer = Answer()
    await app(make_scope(path, method, headers), no_content, answer.send)
    return answer


class Origin:
    """An application that counts its calls and answers what the test says.

    `headers` may be a function of the request's scope. With `gate` set, it waits there before it answers.
    """

    def __init__(self, *, status: int = 200, body: bytes | None = None, **headers: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.status = status
        self.body = body
        self.headers: Any = {name.replace("_", "-"): value for name, value in headers.items()}
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.cancelled = 0
        self._progress = asyncio.Condition()

    async def called(self, times: int) -> None:
        """Wait until the origin has been called so often."""
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.calls) >= times)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(scope)
        number = len(self.calls)
        async with self._progress:
            self._progress.notify_all()
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        headers = self.headers(scope) if callable(self.headers) else self.headers
        lines = [
            (name.encode(), value.encode())
            for name, values in headers.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": lines})
        body = b"answer %d" % number if self.body is None else self.body
        await send({"type": "http.response.body", "body": body})


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def caching(origin: Any, **options: Any) -> tuple[EdgeCache, HandClock]:
    clock = HandClock()
    return EdgeCache(origin, clock=clock, **options), clock
