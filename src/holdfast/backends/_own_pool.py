"""Pools of holdfast's own: a fixed number of places, lent in the order in which they were asked for.

A connection is opened when a place without one is lent, so nothing runs in the background. One that
has gone stale while it lay idle (the server was restarted, or ended the session) is replaced without
anybody noticing: nothing was sent on it, so that is certain to be safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from holdfast.backends import _fork
from holdfast.backends._fair import FairPool

__all__ = ["AsyncOwnPool", "SyncOwnPool"]


class _Pooled(Protocol):
    def alive(self) -> bool: ...

    def in_transaction(self) -> bool: ...

    def stale(self) -> bool: ...

    def drop(self) -> None: ...


L = TypeVar("L", bound=_Pooled)


class _OwnPool(Generic[L]):
    def __init__(self, max_connections: int) -> None:
        self._size = max_connections
        self._places: FairPool[L | None] = FairPool([None] * max_connections)
        self._closed = False
        _fork.remember(self)

    def give(self, link: L) -> None:
        """Give a link back; one that cannot be used by the next is closed."""
        if link.alive() and not link.in_transaction():
            self._places.give(link)
            # Looked at after it was laid down: whichever comes second, this or `close`, sees the other.
            if self._closed:
                self._drop_idle()
        else:
            link.drop()
            self._places.give(None)

    def forget_inherited(self) -> None:
        """After a fork: begin with nothing."""
        _fork.leak(link for link in self._take_idle() if link is not None)
        self._places = FairPool([None] * self._size)

    def _take_idle(self) -> list[L | None]:
        idle = []
        while (place := self._places.take_now()) is not None:
            idle.append(place[0])
        return idle

    def _drop_idle(self) -> None:
        for link in self._take_idle():
            if link is not None:
                link.drop()
            self._places.give(None)

    def _shut(self) -> None:
        # A request that comes later still gets a connection, but none is kept.
        self._closed = True
        self._drop_idle()


class SyncOwnPool(_OwnPool[L]):
    """Links for blocking code; `connect` is given the seconds that it may take."""

    def __init__(self, connect: Callable[[float], L], max_connections: int) -> None:
        super().__init__(max_connections)
        self._connect = connect

    def take(self, seconds: float) -> L:
        """Borrow a link, opening one if there is room.

        Raises:
            TimeoutError: all places stayed lent, or the server did not answer, for so long.
        """
        deadline = time.monotonic() + seconds
        try:
            link = self._places.take(seconds)
        except TimeoutError:
            message = f"all {self._size} connections stayed in use for {seconds:.3g} s"
            raise TimeoutError(message) from None
        if link is not None:
            if link.alive() and not link.stale():
                return link
            link.drop()
        try:
            return self._connect(_left(deadline, seconds))
        except BaseException:
            self._places.give(None)
            raise

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._shut()


class AsyncOwnPool(_OwnPool[L]):
    """Links for asyncio code. A link stays on the event loop that opened it."""

    def __init__(self, connect: Callable[[float], Awaitable[L]], max_connections: int) -> None:
        super().__init__(max_connections)
        self._connect = connect

    async def take(self, seconds: float) -> L:
        """Borrow a link, opening one if there is room.

        Raises:
            TimeoutError: all places stayed lent, or the server did not answer, for so long.
        """
        deadline = time.monotonic() + seconds
        try:
            link = await self._places.take_async(seconds)
        except TimeoutError:
            message = f"all {self._size} connections stayed in use for {seconds:.3g} s"
            raise TimeoutError(message) from None
        if link is not None:
            if link.alive() and not link.stale():
                return link
            link.drop()
        try:
            left = _left(deadline, seconds)
            async with asyncio.timeout(left):
                return await self._connect(left)
        except BaseException:
            self._places.give(None)
            raise

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._shut()


def _left(deadline: float, seconds: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        message = f"no connection within {seconds:.3g} s"
        raise TimeoutError(message)
    return left
