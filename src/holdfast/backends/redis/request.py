"""Requests for Redis: one Lua script call, or one plain command, with how to read its reply.

A pattern keeps its Lua beside the module that uses it and loads it once, at import:

    ACQUIRE = Script(__file__, "acquire.lua")

    def acquire(name: str, ttl: float) -> Eval[bool]:
        return Eval(ACQUIRE, [physical_key("lock", name)], [int(ttl * 1000)], bool)

A request knows its own bytes on the wire, so a driver has nothing to encode, and the settings of the
user's client (`encoding`, `decode_responses`) change neither what is sent nor what `decode` is given:
whole numbers as int, strings always as bytes, lists as list, nothing as None.

Nothing here imports redis-py, so a pattern can be imported without it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from holdfast.operations import Request

__all__ = [
    "Argument",
    "Command",
    "Eval",
    "Next",
    "RedisDriver",
    "RedisRequest",
    "Script",
    "Watched",
    "Watching",
    "pack",
]

T = TypeVar("T")
Argument = str | bytes | int | float


@functools.cache
def _packer() -> Callable[[tuple[Argument, ...]], bytes]:
    """Return what writes a command as it goes over the wire: hiredis' own in C where it is installed."""
    try:
        from hiredis import pack_command
    except ImportError:
        return _pack
    packer: Any = pack_command  # whose stubs forget that it returns bytes
    return packer  # type: ignore[no-any-return]


def pack(parts: tuple[Argument, ...]) -> bytes:
    """Return a command as it goes over the wire."""
    return _packer()(parts)


def _pack(parts: tuple[Argument, ...]) -> bytes:
    return b"*%d\r\n%b" % (len(parts), b"".join(map(_bulk, parts)))


def _bulk(value: Argument) -> bytes:
    kind = type(value)
    if kind is str:
        text = cast("str", value).encode()
    elif kind is bytes:
        text = cast("bytes", value)
    elif kind is int or kind is float:
        # repr() of a float is the shortest text that reads back as the same number.
        text = repr(value).encode()
    else:
        message = f"a Redis argument is str, bytes, int or float, not {kind.__name__}"
        raise TypeError(message)
    return b"$%d\r\n%b\r\n" % (len(text), text)


class Script:
    """One Lua script, read from `file` in the folder of `package_file` (pass `__file__`).

    Args:
        package_file: the path of the module that uses the script.
        file: the name of the script's file, such as `acquire.lua`.
        writes: whether it may change anything; the error after a lost answer depends on it.
    """

    __slots__ = ("by_sha", "by_text", "name", "sha1", "text", "writes")

    def __init__(self, package_file: str, file: str, *, writes: bool = True) -> None:
        self.name: str = Path(file).stem
        self.text: str = (Path(package_file).parent / file).read_text(encoding="utf-8")
        self.sha1: str = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.writes: bool = writes
        self.by_sha: tuple[str, str] = ("EVALSHA", self.sha1)
        self.by_text: tuple[str, str] = ("EVAL", self.text)

    def __repr__(self) -> str:
        return f"Script({self.name})"


class RedisRequest(Request[T]):
    """What the drivers need to know of a request."""

    __slots__ = ()

    decode: Callable[[Any], T]
    wait: float
    """Seconds for which the server may keep the answer back on purpose (XREADGROUP BLOCK)."""

    @property
    def name(self) -> str:
        """What this request is called in errors."""
        raise NotImplementedError

    @property
    def key(self) -> str | bytes:
        """The key whose slot decides which node of a cluster is asked."""
        raise NotImplementedError

    @property
    def writes(self) -> bool:
        """Whether carrying it out may change anything."""
        raise NotImplementedError

    def packed(self) -> bytes:
        """Return this request as it goes over the wire."""
        raise NotImplementedError


class Eval(RedisRequest[T]):
    """Call `script` with `keys` and `args`, and read its reply with `decode`.

    All `keys` must share a slot: make them with `physical_key` from the same parts.
    """

    __slots__ = ("args", "decode", "keys", "script")
    wait: float = 0.0

    def __init__(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], decode: Callable[[Any], T]
    ) -> None:
        self.script: Script = script
        self.keys: Sequence[str] = keys
        self.args: Sequence[Argument] = args
        self.decode: Callable[[Any], T] = decode

    def carry(self, driver: Any) -> Any:
        """Have `driver` carry this request out."""
        return cast("RedisDriver", driver).eval(self)

    @property
    def name(self) -> str:
        """The script's or command's name."""
        return self.script.name

    @property
    def key(self) -> str | bytes:
        """The key that decides which cluster node is asked."""
        return self.keys[0]

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.script.writes

    def packed(self) -> bytes:
        """Return the call by SHA, which every request tries first."""
        return self._pack(self.script.by_sha)

    def packed_with_text(self) -> bytes:
        """Return the call with the whole script, for a server that does not know it yet."""
        return self._pack(self.script.by_text)

    def _pack(self, head: tuple[str, str]) -> bytes:
        keys = self.keys
        return _packer()((*head, len(keys), *keys, *self.args))

    def __repr__(self) -> str:
        # Arguments may hold what should not be logged: tokens, payloads.
        return f"Eval({self.script.name}, {list(self.keys)!r})"


def _as_it_is(reply: Any) -> Any:
    return reply


class Command(RedisRequest[T]):
    """Carry out one plain command, such as `("XLEN", stream)`.

    Maps arrive as the server sends them: as dict when the client speaks RESP3, else as a flat list
    (XREADGROUP: a list of pairs).

    Args:
        args: the command and its arguments.
        decode: reads the reply; the default returns it as it is, strings as bytes.
        writes: whether it may change anything; the error after a lost answer depends on it.
        key: the key that decides which cluster node is asked; None means the first argument.
        wait: seconds for which the server may keep its answer back on purpose (`XREADGROUP BLOCK`),
            added to the deadline, >= 0. Such a command is given up at once when its task is cancelled.
    """

    __slots__ = ("_key", "_writes", "args", "decode", "wait")

    def __init__(
        self,
        args: Sequence[Argument],
        decode: Callable[[Any], T] = _as_it_is,
        *,
        writes: bool,
        key: str | bytes | None = None,
        wait: float = 0.0,
    ) -> None:
        self.args: Sequence[Argument] = args
        self.decode: Callable[[Any], T] = decode
        self.wait: float = wait
        self._writes = writes
        self._key = key

    def carry(self, driver: Any) -> Any:
        """Have `driver` carry this request out."""
        return cast("RedisDriver", driver).command(self)

    @property
    def name(self) -> str:
        """The script's or command's name."""
        return str(self.args[0]).lower()

    @property
    def key(self) -> str | bytes:
        """The key that decides which cluster node is asked."""
        if self._key is not None:
            return self._key
        first = self.args[1] if len(self.args) > 1 else ""
        return first if isinstance(first, (str, bytes)) else str(first)

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self._writes

    def packed(self) -> bytes:
        """Return the command as it goes over the wire."""
        return _packer()(tuple(self.args))

    def __repr__(self) -> str:
        return f"Command({self.name})"


class Watched(Protocol):
    """A place in the line of those who wait for notices on a channel."""

    def next(self, seconds: float) -> Request[None]:
        """Wait for the next notice, or for `seconds`; the first time at once."""
        ...

    def wait(self, seconds: float) -> Any:
        """What `next` is carried out by."""
        ...

    def close(self) -> None:
        """Leave the line."""
        ...


class Next(Request[None]):
    """Wait for the next notice of `watch`, or for `seconds`."""

    __slots__ = ("seconds", "watch")

    def __init__(self, watch: Watched, seconds: float) -> None:
        self.watch: Watched = watch
        self.seconds: float = seconds

    def carry(self, driver: Any) -> Any:
        """Wait, as the driver's colour does."""
        del driver
        return self.watch.wait(self.seconds)

    def __repr__(self) -> str:
        return f"Next({self.seconds:g})"


class Watching(Request["Watched | None"]):
    """Stand in line for notices on `channel`: None where the server, or this client, has no notices."""

    __slots__ = ("channel",)

    def __init__(self, channel: str) -> None:
        self.channel: str = channel

    def carry(self, driver: Any) -> Any:
        """Have `driver` watch the channel."""
        return driver.watch(self.channel)

    def __repr__(self) -> str:
        return f"Watching({self.channel!r})"


class RedisDriver(Protocol):
    """What a driver of a Redis backend adds."""

    def eval(self, request: Eval[Any]) -> Any:
        """Call the request's script, at most once."""
        ...

    def command(self, request: Command[Any]) -> Any:
        """Carry out the request's command, at most once."""
        ...
