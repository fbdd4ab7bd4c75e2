"""The Redis backend for asyncio code."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol, TypeVar

from holdfast.backends._backend import DEFAULT_TIMEOUT, AsyncBackend
from holdfast.backends.redis.outcome import answer, error_code, failure
from holdfast.backends.redis.request import Command, Eval, RedisRequest, Watched
from holdfast.clock import SYSTEM_CLOCK, Clock

__all__ = ["AsyncRoute", "RedisAsync"]

T = TypeVar("T")


class AsyncRoute(Protocol):
    """Brings a packed request to the server it belongs to: a `Lane`, or a map of a cluster."""

    async def exchange(
        self, packed: bytes, deadline: float, key: str | bytes, *, finish: bool, alone: bool = False
    ) -> Any:
        """Return the reply, or raise `NotSent`, or whatever happened after sending."""
        ...


class RedisAsync(AsyncBackend):
    """Carry out requests on Redis or Valkey, each at most once and within the deadline.

    A task that is cancelled while the answer to a writing request is on its way gets its
    `CancelledError` when the answer is here, or after a second: what it then does to clean up must not
    overtake the request on another connection.

    Args:
        route: where the servers are.
        place: what to call them in messages, without any password.
        timeout: seconds that one request may take, > 0.
        clock: for patterns; deadlines of sockets are always in real time.
        random: the dice for jitter.
        close: closes what holdfast opened; None for a client of the user's.
        secrets: passwords, which no error may repeat.
    """

    dialect = "redis"

    def __init__(
        self,
        route: AsyncRoute,
        place: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        super().__init__(place, timeout=timeout, clock=clock, random=random)
        self._exchange = route.exchange
        self._watch = getattr(route, "watch", None)
        self._close = close
        self._secrets = secrets

    async def eval(self, request: Eval[T]) -> T:
        """Call the request's script by its SHA, or with its text where the server does not know it."""
        deadline = asyncio.get_running_loop().time() + self.timeout
        reply = await self._ask(request, request.packed(), deadline)
        if isinstance(reply, Exception) and error_code(reply) == "NOSCRIPT":
            reply = await self._ask(request, request.packed_with_text(), deadline)
        return answer(self.place, request, reply)

    async def command(self, request: Command[T]) -> T:
        """Carry out the request's command."""
        deadline = asyncio.get_running_loop().time() + self.timeout + request.wait
        return answer(self.place, request, await self._ask(request, request.packed(), deadline))

    async def watch(self, channel: str) -> Watched | None:
        """Stand in line for notices on `channel`; None where there are none, and who waits must look."""
        if self._watch is None:
            return None
        try:
            watch: Watched = await self._watch(channel, asyncio.get_running_loop().time() + self.timeout)
        except Exception:  # noqa: BLE001 - the store itself will tell when it is asked
            return None
        return watch

    async def _ask(self, request: RedisRequest[Any], packed: bytes, deadline: float) -> Any:
        # What only reads leaves nothing behind, and what waits on purpose is not worth waiting for, and would
        # hold up all that is asked after it.
        alone = request.wait > 0
        finish = request.writes and not alone
        try:
            return await self._exchange(packed, deadline, request.key, finish=finish, alone=alone)
        except Exception as error:  # noqa: BLE001 - whatever broke, was it applied?
            failed = failure(self.place, request, error, self._secrets)
        raise failed

    async def aclose(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""
        if self._close is not None:
            await self._close()
