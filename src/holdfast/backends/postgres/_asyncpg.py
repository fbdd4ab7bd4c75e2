"""Links over asyncpg."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Mapping
from typing import Any

from holdfast.backends._links import NotSent
from holdfast.backends._surely import surely
from holdfast.backends.sql import Row, Statement
from holdfast.errors import MissingExtra

__all__ = ["AsyncpgLink", "asyncpg_module"]

_CANCEL_SECONDS = 1.0
"""How long the server gets to cancel the statement of a cancelled task."""
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


def asyncpg_module() -> Any:
    """Return the driver, imported when it is first needed.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import asyncpg
    except ImportError as error:
        message = 'asyncpg is not installed: pip install "holdfast[asyncpg]"'
        raise MissingExtra(message, extra="asyncpg") from error
    return asyncpg


class AsyncpgLink:
    """An `asyncpg.Connection`, or one that a pool has lent."""

    autocommit = True

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        # asyncpg refuses a second statement before the first has ended; tasks of one transaction wait.
        self._alone = asyncio.Lock()

    def in_transaction(self) -> bool:
        return self.alive() and bool(self.connection.is_in_transaction())

    def alive(self) -> bool:
        try:
            return not self.connection.is_closed()
        except asyncpg_module().InterfaceError:  # its pool has taken it back, as a terminated one
            return False

    def fileno(self) -> int:
        """Return the number of the socket; -1 when there is none any more, or none to be seen."""
        transport = getattr(self.connection, "_transport", None) if self.alive() else None
        socket = transport.get_extra_info("socket") if transport is not None else None
        return -1 if socket is None else int(socket.fileno())

    def stale(self) -> bool:
        """Tell whether an idle connection has something to say, which is always a goodbye."""
        if self._loop is not asyncio.get_running_loop():
            return True
        if (fd := self.fileno()) < 0:
            return False
        poll = select.poll()
        poll.register(fd, _READABLE)
        return bool(poll.poll(0))

    def drop(self) -> None:
        if not self._loop.is_closed() and self.alive():
            self.connection.terminate()

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        values = statement.positional(parameters)
        rows = await self._timed(self.connection.fetch, (statement.numbered, *values), seconds)
        return [tuple(row) for row in rows]

    async def begin(self, seconds: float) -> None:
        await self._control("begin", seconds)

    async def commit(self, seconds: float) -> None:
        # A COMMIT after a failed statement, whose error somebody swallowed, is a ROLLBACK.
        if await self._control("commit", seconds) == "ROLLBACK":
            message = "a statement of this transaction had failed, so COMMIT rolled it back"
            raise asyncpg_module().exceptions.InFailedSQLTransactionError(message)

    async def rollback(self, seconds: float) -> None:
        await self._control("rollback", seconds)

    async def _control(self, command: str, seconds: float) -> str:
        return await self._timed(self.connection.execute, (command,), seconds)  # type: ignore[no-any-return]

    async def _timed(self, method: Any, arguments: tuple[Any, ...], seconds: float) -> Any:
        ours = False
        try:
            async with asyncio.timeout(seconds):
                await self._alone.acquire()
                ours = True
                return await self._sent(method, arguments)
        except TimeoutError:
            if not ours:
                raise NotSent("the connection stayed in use until the time was over") from None
            # asyncpg has asked the server to cancel, and would wait for its answer before anything else.
            self.drop()
            raise
        except asyncio.CancelledError:
            if ours:
                await surely(self._settle())
            raise
        finally:
            if ours:
                self._alone.release()

    async def _sent(self, method: Any, arguments: tuple[Any, ...]) -> Any:
        if not self.alive():  # whoever had it before has lost it
            raise NotSent("the connection is closed")
        try:
            return await method(*arguments)
        except asyncpg_module().InterfaceError as error:
            # The user is using it as well; asyncpg refuses to send a second statement then.
            if "cannot perform operation" in str(error):
                raise NotSent(str(error)) from error
            raise

    async def _settle(self) -> None:
        # asyncpg has asked the server to cancel and does not wait for the answer; only the next command
        # does. Before that nobody knows whether a transaction is open.
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self.connection.execute("select 1")
        except asyncpg_module().InFailedSQLTransactionError:
            return
        except Exception:  # noqa: BLE001 - whatever it was, the conversation is broken off
            self.drop()
