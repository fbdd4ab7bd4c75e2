"""What "decide, then do" costs over calling a client directly, and what importing holdfast costs.

The first table uses a client that answers at once, so it shows the CPU of the layer and nothing else. The
second asks a real Redis on loopback, the same script and arguments: redis-py's own `evalsha`, and holdfast.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from bench.harness import Candidate, measure, measure_async, report
from holdfast.backends import adopt
from holdfast.backends.redis import Eval, Script
from holdfast.drivers import AsyncDriver, SyncDriver
from holdfast.operations import Pattern, Request, Steps, operation
from holdfast.testing.services import RedisServer

__all__ = ["main"]

ONE = Script(__file__, "one.lua")


class Ask(Request[int]):
    """A request that its driver answers at once."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def carry(self, driver: Any) -> Any:
        return driver.ask(self.key)


class AtOnce(SyncDriver):
    """A driver without a socket."""

    def ask(self, key: str) -> int:
        return len(key)


class AtOnceAsync(AsyncDriver):
    """The same, awaited."""

    async def ask(self, key: str) -> int:
        return len(key)


class Asking(Pattern[Any]):
    """One operation in each form."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @operation
    def request(self, key: str) -> Request[int]:
        """A single request."""
        return Ask(key)

    @operation
    def steps(self, key: str) -> Steps[int]:
        """A generator of one request."""
        return (yield from Ask(key))


class Scripted(Pattern[Any]):
    """The script on a real Redis."""

    def __init__(self, client: Any) -> None:
        self._driver = adopt(client)

    @operation
    def request(self, key: str) -> Request[int]:
        """A single request."""
        return Eval(ONE, [key], [1], int)

    @operation
    def steps(self, key: str) -> Steps[int]:
        """A generator of one request."""
        return (yield from Eval(ONE, [key], [1], int))


def _blocking(call: Any) -> Any:
    def work(calls: int) -> None:
        for _ in range(calls):
            call("key")

    return work


def _awaiting(call: Any) -> Any:
    async def work(calls: int) -> None:
        for _ in range(calls):
            await call("key")

    return work


def layer() -> None:
    """The layer alone."""
    driver = AtOnce()
    asking = Asking(driver)
    candidates = [
        Candidate("direct call", _blocking(driver.ask)),
        Candidate("@operation, one request", _blocking(asking.request)),
        Candidate("@operation, generator", _blocking(asking.steps)),
    ]
    measure(candidates, calls=20_000, rounds=21)
    report("Operations layer, sync, a client that answers at once", candidates)


async def layer_async() -> None:
    """The layer alone, awaited."""
    driver = AtOnceAsync()
    asking = Asking(driver)
    candidates = [
        Candidate("direct call", _awaiting(driver.ask)),
        Candidate("@operation, one request", _awaiting(asking.request)),
        Candidate("@operation, generator", _awaiting(asking.steps)),
    ]
    await measure_async(candidates, calls=20_000, rounds=21)
    report("Operations layer, async, a client that answers at once", candidates)


def on_redis(url: str) -> None:
    """A script on a real Redis, sync."""
    client = redis.Redis.from_url(url)
    sha = client.script_load(ONE.text)
    scripted = Scripted(client)
    candidates = [
        Candidate("redis-py evalsha", _blocking(lambda key: client.evalsha(sha, 1, key, 1))),
        Candidate("holdfast, one request", _blocking(scripted.request)),
        Candidate("holdfast, generator", _blocking(scripted.steps)),
    ]
    measure(candidates, calls=500, rounds=31)
    report("One script on Redis, sync, 1 caller", candidates)
    client.close()


async def on_redis_async(url: str, tasks: int) -> None:
    """A script on a real Redis, async."""
    client = redis.asyncio.Redis.from_url(url)
    sha = await client.script_load(ONE.text)
    scripted = Scripted(client)
    candidates = [
        Candidate("redis-py evalsha", _awaiting(lambda key: client.evalsha(sha, 1, key, 1))),
        Candidate("holdfast, one request", _awaiting(scripted.request)),
        Candidate("holdfast, generator", _awaiting(scripted.steps)),
    ]
    await measure_async(candidates, calls=max(20, 400 // tasks), rounds=31, tasks=tasks)
    report(f"One script on Redis, async, {tasks} task{'s' if tasks > 1 else ''}", candidates)
    await client.aclose()


def imports() -> None:
    """A fresh interpreter with and without holdfast."""

    def start(code: str) -> Any:
        def work(calls: int) -> None:
            for _ in range(calls):
                subprocess.run([sys.executable, "-c", code], check=True)

        return work

    candidates = [
        Candidate("python -c pass", start("pass")),
        Candidate("python -c 'import holdfast'", start("import holdfast")),
        Candidate("... and Lock", start("from holdfast import Lock")),
        Candidate("python -c 'import asyncio'", start("import asyncio")),
    ]
    measure(candidates, calls=1, rounds=15)
    report("Starting an interpreter", candidates)


def main() -> None:
    """Run all."""
    layer()
    asyncio.run(layer_async())
    with RedisServer() as server:
        on_redis(server.url)
        for tasks in (1, 64):
            asyncio.run(on_redis_async(server.url, tasks))
    imports()


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}, redis-py {redis.__version__}, {Path(__file__).name}")
    main()
