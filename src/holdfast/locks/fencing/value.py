"""A value in Redis that only the newest holder of a lock can write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, overload

from holdfast import checks
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.errors import ConfigurationError
from holdfast.locks.fencing import redis
from holdfast.locks.fencing._token import legal_token, stale
from holdfast.operations import Async, C, Pattern, Steps, Sync, operation

__all__ = ["Fenced", "FencedValue"]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A value, and the token of the holder who wrote it."""

    value: bytes
    token: int


class FencedValue(Pattern[C], Generic[C]):
    """One value in Redis or Valkey; each write is one atomic step, refused when a greater token has written.

        await FencedValue(redis_client, "leader").write("node-7", token=lease.token)

    Args:
        client: a Redis or Valkey client, or `connect("redis://...")`.
        name: the value's name, 1 to 255 printable characters.
        ttl: seconds after the last write until the value *and its token* are forgotten, > 0; None keeps them.
            Choose it longer than any holder can be paused.

    Raises:
        ConfigurationError: an argument is not legal; the client is not one of Redis.
    """

    @overload
    def __init__(self: FencedValue[Async], client: AsyncClient, name: str, *, ttl: float | None = None) -> None: ...
    @overload
    def __init__(self: FencedValue[Sync], client: SyncClient, name: str, *, ttl: float | None = None) -> None: ...
    def __init__(self, client: Any, name: str, *, ttl: float | None = None) -> None:
        self.name: str = checks.key("name", name)
        self.ttl: float | None = checks.optional_positive("ttl", ttl)
        self._driver = backend = adopt(client)
        if backend.dialect != "redis":
            message = f"FencedValue takes a client of Redis, not {backend!r}; in SQL use FencedTable or Fence"
            raise ConfigurationError(message)

    @operation
    def write(self, value: bytes | str, *, token: int) -> Steps[None]:
        """Write `value` (a str as UTF-8).

        Raises:
            StaleToken: a newer holder has written; nothing was.
        """
        encoded = value.encode() if isinstance(value, str) else value
        newest = yield from redis.write(self.name, encoded, legal_token(token), self.ttl)
        if newest > token:
            raise stale(self.name, token, newest)

    @operation
    def read(self) -> Steps[Fenced | None]:
        """Return the value and the token it was written with; None when there is none."""
        found = yield from redis.read(self.name)
        return None if found is None else Fenced(*found)

    def __repr__(self) -> str:
        return f"<FencedValue {self.name!r} on {self._driver.place}>"

    if TYPE_CHECKING:
        _driver: Any
