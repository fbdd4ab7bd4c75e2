"""The Redis backend for blocking code."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from holdfast.backends._backend import DEFAULT_TIMEOUT, SyncBackend
from holdfast.backends.redis.outcome import answer, error_code, failure
from holdfast.backends.redis.request import Command, Eval, RedisRequest
from holdfast.clock import SYSTEM_CLOCK, Clock

__all__ = ["RedisSync", "Route"]

T = TypeVar("T")


class Route(Protocol):
    """Brings a packed request to the server it belongs to: a `Lane`, or a map of a cluster."""

    def exchange(self, packed: bytes, deadline: float, key: str | bytes) -> Any:
        """Return the reply, or raise `NotSent`, or whatever happened after sending."""
        ...


class RedisSync(SyncBackend):
    """Carry out requests on Redis or Valkey, each at most once and within the deadline.

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
        route: Route,
        place: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
        close: Callable[[], None] | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        super().__init__(place, timeout=timeout, clock=clock, random=random)
        self._exchange = route.exchange
        self._close = close
        self._secrets = secrets

    def eval(self, request: Eval[T]) -> T:
        """Call the request's script by its SHA, or with its text where the server does not know it."""
        deadline = time.monotonic() + self.timeout
        reply = self._ask(request, request.packed(), deadline)
        if isinstance(reply, Exception) and error_code(reply) == "NOSCRIPT":
            reply = self._ask(request, request.packed_with_text(), deadline)
        return answer(self.place, request, reply)

    def command(self, request: Command[T]) -> T:
        """Carry out the request's command."""
        deadline = time.monotonic() + self.timeout + request.wait
        return answer(self.place, request, self._ask(request, request.packed(), deadline))

    def watch(self, channel: str) -> None:
        """Return None: a blocking client has no notices, and who waits must look."""
        del channel

    def _ask(self, request: RedisRequest[Any], packed: bytes, deadline: float) -> Any:
        try:
            return self._exchange(packed, deadline, request.key)
        except Exception as error:  # noqa: BLE001 - whatever broke, was it applied?
            failed = failure(self.place, request, error, self._secrets)
        raise failed

    def close(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""
        if self._close is not None:
            self._close()
