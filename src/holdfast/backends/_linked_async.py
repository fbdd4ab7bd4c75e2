"""A SQL backend for asyncio code on top of links; see `_links`. `_linked_sync` is its twin."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

from holdfast.backends._backend import DEFAULT_TIMEOUT
from holdfast.backends._links import AsyncLink, AsyncLinks, Conflict, Explain, NotSent, Phase, too_late, unreachable
from holdfast.backends._single import AsyncSingle
from holdfast.backends._surely import surely
from holdfast.backends.sql import Query, Row, Statement
from holdfast.backends.transactions import MAX_RESTARTS, JoinedAsync, SqlAsync, restart_pause
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.errors import HoldfastError
from holdfast.operations import Steps

__all__ = ["JoinedLinkAsync", "LinkedAsync"]

T = TypeVar("T")
_BEGIN = Statement("begin", "begin")
_COMMIT = Statement("commit", "commit")


class LinkedAsync(SqlAsync):
    """A SQL server for asyncio code, safe to use from many tasks if its links are.

    On a connection of the user's whose transaction is open, everything becomes part of that
    transaction; otherwise every request is a transaction of its own.

    Args:
        links: where connections come from.
        place: what to call this backend in messages, without any password.
        explain: says what an error of the driver means.
        timeout: seconds that one request may take, > 0; the connection is dropped when they are over.
        clock: for the patterns; waiting for the server is measured in real time.
        random: the dice for jitter.
    """

    def __init__(
        self,
        links: AsyncLinks,
        place: str,
        *,
        explain: Explain,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        super().__init__(place, timeout=timeout, clock=clock, random=random)
        self.links = links
        self.one_connection: bool = isinstance(links, AsyncSingle)
        self.explain = explain

    async def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once.

        Raises:
            BackendUnavailable: it was certainly not done.
            OutcomeUnknown: the connection was lost while it wrote.
        """
        deadline = time.monotonic() + self.timeout
        for restart in range(MAX_RESTARTS):
            try:
                return request.decode(await self._alone(request, deadline))
            except Conflict as conflict:
                pause = restart_pause(restart, self.random)
                if conflict.joined or time.monotonic() + pause >= deadline:
                    raise
            await self.sleep(pause)
        return request.decode(await self._alone(request, deadline))

    async def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` in one transaction.

        When it has to give way to another transaction it begins again, up to 5 times, but never when
        it has called the user's function (`Run`), which must not happen twice.
        """
        for restart in range(MAX_RESTARTS):
            joined = None
            try:
                async with self.transaction() as joined:
                    return await joined.run(steps())
            except Conflict:
                if joined is not None and not joined.restartable:
                    raise
            await self.sleep(restart_pause(restart, self.random))
        async with self.transaction() as joined:
            return await joined.run(steps())

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[JoinedLinkAsync]:
        """Open a transaction (in an open one, a savepoint): commit at the end, roll back on an exception.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the connection was lost while it committed.
        """
        deadline = time.monotonic() + self.timeout
        async with self._lent(deadline) as link:
            joined = JoinedLinkAsync(self, link, restartable=not link.in_transaction())
            try:
                if joined.restartable:
                    async with self._own(link, deadline):
                        yield joined
                else:
                    async with joined.transaction():
                        yield joined
            finally:
                joined.end()

    async def aclose(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""
        await self.links.close()

    async def fetch_on(self, link: AsyncLink, request: Query[Any], phase: Phase, seconds: float) -> Sequence[Row]:
        """Carry out one statement on a borrowed link."""
        if seconds <= 0:
            raise too_late(place=self.place, operation=request.statement.name)
        try:
            return await link.fetch(request.statement, request.parameters, seconds)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._fail(error, link, request.statement, phase)

    async def _alone(self, request: Query[Any], deadline: float) -> Sequence[Row]:
        # The hot path: no context managers here.
        statement = request.statement
        link = await self._take(statement.name, deadline)
        try:
            if link.in_transaction():
                phase = Phase.JOINED
            elif link.autocommit:
                phase = Phase.WRITE if statement.writes else Phase.READ
            else:
                return await self._begun(link, request, deadline)
            return await self.fetch_on(link, request, phase, deadline - time.monotonic())
        finally:
            if (giving := self.links.give(link)) is not None:
                await surely(giving)

    async def _begun(self, link: AsyncLink, request: Query[Any], deadline: float) -> Sequence[Row]:
        # The driver begins a transaction by itself; after a read there is nothing to commit.
        if request.statement.writes:
            async with self._own(link, deadline, commit_by=deadline):
                return await self.fetch_on(link, request, Phase.WITHIN, deadline - time.monotonic())
        try:
            return await self.fetch_on(link, request, Phase.READ, deadline - time.monotonic())
        finally:
            await surely(self._roll_back(link))

    @contextlib.asynccontextmanager
    async def _own(self, link: AsyncLink, begin_by: float, *, commit_by: float | None = None) -> AsyncIterator[None]:
        try:
            await self._control(link.begin, link, _BEGIN, begin_by)
            yield
            await self._control(link.commit, link, _COMMIT, commit_by or time.monotonic() + self.timeout)
        except BaseException:
            await surely(self._roll_back(link))
            raise

    async def _roll_back(self, link: AsyncLink) -> None:
        # The error that brought us here says more than one of the rollback would.
        if not link.alive() or not link.in_transaction():
            return
        try:
            await link.rollback(self.timeout)
        except Exception:  # noqa: BLE001 - without its connection the server rolls back by itself
            link.drop()

    async def _control(
        self, action: Callable[[float], Awaitable[None]], link: AsyncLink, statement: Statement, deadline: float
    ) -> None:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise too_late(place=self.place, operation=statement.name)
        try:
            await action(seconds)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._fail(error, link, statement, Phase.COMMIT if statement is _COMMIT else Phase.WITHIN)

    @contextlib.asynccontextmanager
    async def _lent(self, deadline: float) -> AsyncIterator[AsyncLink]:
        link = await self._take("begin", deadline)
        try:
            yield link
        finally:
            if (giving := self.links.give(link)) is not None:
                await surely(giving)

    async def _take(self, operation: str, deadline: float) -> AsyncLink:
        try:
            return await self.links.take(deadline - time.monotonic())
        except HoldfastError:
            raise
        except Exception as error:
            raise unreachable(error, place=self.place, operation=operation) from error

    def _fail(self, error: Exception, link: AsyncLink, statement: Statement, phase: Phase) -> NoReturn:
        if isinstance(error, NotSent):
            raise unreachable(error, place=self.place, operation=statement.name) from error
        if isinstance(error, TimeoutError):
            link.drop()
        lost = not link.alive()
        explained = self.explain(error, phase=phase, lost=lost, statement=statement, place=self.place)
        if explained is error:
            raise error
        raise explained from error


class JoinedLinkAsync(JoinedAsync):
    """An open transaction as a backend for asyncio code."""

    def __init__(self, owner: LinkedAsync, link: AsyncLink, *, restartable: bool) -> None:
        super().__init__(owner.place, timeout=owner.timeout, clock=owner.clock, random=owner.random)
        self.dialect = owner.dialect  # type: ignore[misc]  # as that of the owner
        self._owner = owner
        self._open = [link]  # shared by copies, emptied at the end
        self._phase = Phase.WITHIN if restartable else Phase.JOINED
        self.restartable = restartable
        """It is holdfast's own transaction, and no function of the user's was called in it."""

    async def query(self, request: Query[T]) -> T:
        """Carry out one statement in the open transaction.

        Raises:
            BackendUnavailable: the statement failed, or the connection and with it the transaction is lost.
        """
        return request.decode(await self.fetch(request))

    async def fetch(self, request: Query[Any]) -> Sequence[Row]:
        """Return the rows of one statement."""
        return await self._owner.fetch_on(self._link(), request, self._phase, self.timeout)

    async def run_function(self, function: Callable[..., Awaitable[T] | T], *args: object) -> T:
        """Call `function`; from now on the transaction is not begun again by itself."""
        self.restartable = False
        return await super().run_function(function, *args)

    def end(self) -> None:
        """Refuse everything from now on: the transaction is over."""
        self._open.clear()

    def _link(self) -> AsyncLink:
        if not self._open:
            message = "this transaction has ended; a joined backend lives as long as its block"
            raise RuntimeError(message)
        return self._open[0]
