"""Links over a SQLAlchemy `AsyncSession`, `AsyncConnection` or `AsyncEngine`.

SQLAlchemy itself runs its blocking code on asyncio (`run_sync`), so the blocking link does the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from holdfast.backends._links import NotSent
from holdfast.backends._surely import surely
from holdfast.backends.sql import Row, Statement
from holdfast.backends.sqlalchemy._autocommit import options_for
from holdfast.backends.sqlalchemy._blocking import EngineLink, SessionLink
from holdfast.backends.sqlalchemy._spelling import alive, drop

__all__ = ["AsyncEngineLinks", "AsyncSessionLink"]

_GRACE_SECONDS = 0.1


class AsyncSessionLink:
    """An `AsyncSession` or `AsyncConnection`: there is always a transaction to join."""

    autocommit = False

    def __init__(self, client: Any, make: Callable[[Any], SessionLink]) -> None:
        self._client = client
        self._make = make
        self._link: SessionLink | None = None
        self._driver: Any = None
        self._alone = asyncio.Lock()
        self._broken = False

    def in_transaction(self) -> bool:
        return True

    def alive(self) -> bool:
        return not self._broken and (self._driver is None or alive(self._driver))

    def drop(self) -> None:
        self._broken = True
        if self._driver is not None and alive(self._driver):
            drop(self._driver)

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        return await self._run(lambda link, left: link.fetch(statement, parameters, left), seconds)  # type: ignore[no-any-return]

    async def begin(self, seconds: float) -> None:
        await self._run(lambda link, left: link.begin(left), seconds)

    async def commit(self, seconds: float) -> None:
        await self._run(lambda link, left: link.commit(left), seconds)

    async def rollback(self, seconds: float) -> None:
        await self._run(lambda link, left: link.rollback(left), seconds)

    async def _run(self, action: Callable[[SessionLink, float], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._alone.acquire()
        except TimeoutError:
            raise NotSent("the connection stayed in use until the time was over") from None
        try:
            return await self._run_alone(action, deadline - time.monotonic())
        finally:
            self._alone.release()

    async def _run_alone(self, action: Callable[[SessionLink, float], Any], seconds: float) -> Any:
        def blocking(client: Any) -> Any:
            if self._link is None:
                self._link = self._make(client)
            self._driver = self._link.driver()
            return action(self._link, seconds)

        self._broken = False  # SQLAlchemy has replaced a connection that was
        # A cancelled statement would make SQLAlchemy say goodbye politely, for 2 s more. So at the
        # deadline the connection is broken off first, and the cancellation is for what has none yet.
        ending = asyncio.get_running_loop().call_later(seconds, self.drop)
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                return await self._client.run_sync(blocking)
        except Exception as error:
            if self._broken and not isinstance(error, TimeoutError):
                raise TimeoutError from error
            raise
        finally:
            ending.cancel()


class AsyncEngineLink(AsyncSessionLink):
    """A connection that an async engine has lent to us: its transactions are ours."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, EngineLink)
        self.connection = connection

    def in_transaction(self) -> bool:
        return bool(self.connection.in_transaction())


class AsyncEngineLinks:
    """An `AsyncEngine` as a source of links."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._options = options_for(engine)
        self._leaving: set[asyncio.Future[Any]] = set()  # asyncio itself does not hold its tasks

    async def take(self, seconds: float) -> AsyncEngineLink:
        """Borrow a connection.

        Raises:
            TimeoutError: the pool, or the server, took longer.
        """
        # In a task of its own: one that is cancelled takes its leave of a hanging server politely, for seconds.
        connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.wait([connecting], timeout=seconds)
        except BaseException:
            self._abandon(connecting)
            raise
        if not connecting.done():
            self._abandon(connecting)
            message = f"no connection within {seconds:.3g} s"
            raise TimeoutError(message)
        return AsyncEngineLink(connecting.result())

    async def _connect(self) -> Any:
        connection = await self._engine.connect()
        if self._options:
            await connection.execution_options(**self._options)
        return connection

    def _abandon(self, connecting: asyncio.Future[Any]) -> None:
        self._leaving.add(connecting)
        connecting.add_done_callback(self._discard)
        connecting.cancel()

    def _discard(self, connecting: asyncio.Future[Any]) -> None:
        self._leaving.discard(connecting)
        if not connecting.cancelled() and connecting.exception() is None:
            closing = asyncio.ensure_future(connecting.result().close())
            self._leaving.add(closing)
            closing.add_done_callback(self._leaving.discard)

    def give(self, link: AsyncEngineLink) -> Coroutine[Any, Any, None]:
        """Give it back; SQLAlchemy rolls back what is open."""
        return self._give(link)

    async def _give(self, link: AsyncEngineLink) -> None:
        if not link.alive():
            await link.connection.invalidate()
        await surely(link.connection.close())

    async def close(self) -> None:
        """Leave the user's engine as it is."""
