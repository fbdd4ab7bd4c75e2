"""What the tests of the Redis backend share: scripts, and backends of every make and colour."""

import importlib
import inspect
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import holdfast.backends
from holdfast.backends.redis import Eval, RedisAsync, RedisSync, Script, physical_key

Backend = RedisSync | RedisAsync
HERE = str(Path(__file__).parent / "lua" / "x")

ECHO = Script(HERE, "echo.lua", writes=False)
INCREASE = Script(HERE, "increase.lua")
SPIN = Script(HERE, "spin.lua")
ACQUIRE = Script(HERE, "acquire.lua")
RELEASE = Script(HERE, "release.lua")

LIBRARIES = ("redis", "valkey")
COLOURS = ("sync", "async")


def echo(value: str) -> Eval[Any]:
    """Ask for `value` back, read-only, with one reply of every type."""
    return Eval(ECHO, [physical_key("test", "echo")], [value], lambda reply: reply)


def increase(name: str = "counter") -> Eval[int]:
    """Add one to a counter, and return it."""
    return Eval(INCREASE, [physical_key("test", name)], [], int)


def spin(milliseconds: int, name: str = "spun") -> Eval[int]:
    """Keep the server busy after it has written something."""
    return Eval(SPIN, [physical_key("test", name)], [milliseconds], int)


def connect(colour: str, url: str, *, timeout: float = 5.0) -> Backend:
    """Open `url` for one colour."""
    opened: Any = (holdfast.backends.connect if colour == "sync" else holdfast.backends.connect_async)(
        url, timeout=timeout
    )
    return opened  # type: ignore[no-any-return]


def client(library: str, colour: str, url: str, **options: Any) -> Any:
    """Make a client as users do, its own retries and time-outs included."""
    module = importlib.import_module(library if colour == "sync" else f"{library}.asyncio")
    kind = module.Valkey if library == "valkey" else module.Redis
    return kind.from_url(url, **options)


def taken(pool: Any) -> Any:
    """Take a connection out of a pool, as the libraries' own clients do; some want an argument for it."""
    name = inspect.signature(pool.get_connection).parameters["command_name"]
    return pool.get_connection(*(["PING"] if name.default is inspect.Parameter.empty else []))


async def done(result: Any) -> Any:
    """Await what an async backend or client returned; a sync one has the value already."""
    return await result if isinstance(result, Awaitable) else result


async def ask(backend: Backend, request: Any) -> Any:
    """Carry out `request` on a backend of either colour."""
    return await done(request.carry(backend))


async def close(thing: Any) -> None:
    """Close a backend or client of either colour."""
    closing = thing.aclose() if hasattr(thing, "aclose") else thing.close()
    if inspect.isawaitable(closing):
        await closing
