"""A SQL backend for blocking code on top of links; see `_links`. `_linked_async` is its twin."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from holdfast.backends._backend import DEFAULT_TIMEOUT
from holdfast.backends._links import Conflict, Explain, NotSent, Phase, SyncLink, SyncLinks, too_late, unreachable
from holdfast.backends._single import SyncSingle
from holdfast.backends.sql import Query, Row, Statement
from holdfast.backends.transactions import MAX_RESTARTS, JoinedSync, SqlSync, restart_pause
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.errors import HoldfastError
from holdfast.operations import Steps

__all__ = ["JoinedLinkSync", "LinkedSync"]

T = TypeVar("T")
_BEGIN = Statement("begin", "begin")
_COMMIT = Statement("commit", "commit")


class LinkedSync(SqlSync):
    """A SQL server for blocking code, safe to use from many threads if its links are.

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
        links: SyncLinks,
        place: str,
        *,
        explain: Explain,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        super().__init__(place, timeout=timeout, clock=clock, random=random)
        self.links = links
        self.one_connection: bool = isinstance(links, SyncSingle)
        self.explain = explain

    def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once.

        Raises:
            BackendUnavailable: it was certainly not done.
            OutcomeUnknown: the connection was lost while it wrote.
        """
        deadline = time.monotonic() + self.timeout
        for restart in range(MAX_RESTARTS):
            try:
                return request.decode(self._alone(request, deadline))
            except Conflict as conflict:
                pause = restart_pause(restart, self.random)
                if conflict.joined or time.monotonic() + pause >= deadline:
                    raise
            self.sleep(pause)
        return request.decode(self._alone(request, deadline))

    def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` in one transaction.

        When it has to give way to another transaction it begins again, up to 5 times, but never when
        it has called the user's function (`Run`), which must not happen twice.
        """
        for restart in range(MAX_RESTARTS):
            joined = None
            try:
                with self.transaction() as joined:
                    return joined.run(steps())
            except Conflict:
                if joined is not None and not joined.restartable:
                    raise
            self.sleep(restart_pause(restart, self.random))
        with self.transaction() as joined:
            return joined.run(steps())

    @contextlib.contextmanager
    def transaction(self) -> Iterator[JoinedLinkSync]:
        """Open a transaction (in an open one, a savepoint): commit at the end, roll back on an exception.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the connection was lost while it committed.
        """
        deadline = time.monotonic() + self.timeout
        with self._lent(deadline) as link:
            joined = JoinedLinkSync(self, link, restartable=not link.in_transaction())
            try:
                if joined.restartable:
                    with self._own(link, deadline):
                        yield joined
                else:
                    with joined.transaction():
                        yield joined
            finally:
                joined.end()

    def close(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""
        self.links.close()

    def fetch_on(self, link: SyncLink, request: Query[Any], phase: Phase, seconds: float) -> Sequence[Row]:
        """Carry out one statement on a borrowed link."""
        if seconds <= 0:
            raise too_late(place=self.place, operation=request.statement.name)
        try:
            return link.fetch(request.statement, request.parameters, seconds)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._fail(error, link, request.statement, phase)

    def _alone(self, request: Query[Any], deadline: float) -> Sequence[Row]:
        # The hot path: no context managers here.
        statement = request.statement
        link = self._take(statement.name, deadline)
        try:
            if link.in_transaction():
                phase = Phase.JOINED
            elif link.autocommit:
                phase = Phase.WRITE if statement.writes else Phase.READ
            else:
                return self._begun(link, request, deadline)
            return self.fetch_on(link, request, phase, deadline - time.monotonic())
        finally:
            self.links.give(link)

    def _begun(self, link: SyncLink, request: Query[Any], deadline: float) -> Sequence[Row]:
        # The driver begins a transaction by itself; after a read there is nothing to commit.
        if request.statement.writes:
            with self._own(link, deadline, commit_by=deadline):
                return self.fetch_on(link, request, Phase.WITHIN, deadline - time.monotonic())
        try:
            return self.fetch_on(link, request, Phase.READ, deadline - time.monotonic())
        finally:
            self._roll_back(link)

    @contextlib.contextmanager
    def _own(self, link: SyncLink, begin_by: float, *, commit_by: float | None = None) -> Iterator[None]:
        try:
            self._control(link.begin, link, _BEGIN, begin_by)
            yield
            self._control(link.commit, link, _COMMIT, commit_by or time.monotonic() + self.timeout)
        except BaseException:
            self._roll_back(link)
            raise

    def _roll_back(self, link: SyncLink) -> None:
        # The error that brought us here says more than one of the rollback would.
        if not link.alive() or not link.in_transaction():
            return
        try:
            link.rollback(self.timeout)
        except Exception:  # noqa: BLE001 - without its connection the server rolls back by itself
            link.drop()

    def _control(self, action: Callable[[float], None], link: SyncLink, statement: Statement, deadline: float) -> None:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise too_late(place=self.place, operation=statement.name)
        try:
            action(seconds)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._fail(error, link, statement, Phase.COMMIT if statement is _COMMIT else Phase.WITHIN)

    @contextlib.contextmanager
    def _lent(self, deadline: float) -> Iterator[SyncLink]:
        link = self._take("begin", deadline)
        try:
            yield link
        finally:
            self.links.give(link)

    def _take(self, operation: str, deadline: float) -> SyncLink:
        try:
            return self.links.take(deadline - time.monotonic())
        except HoldfastError:
            raise
        except Exception as error:
            raise unreachable(error, place=self.place, operation=operation) from error

    def _fail(self, error: Exception, link: SyncLink, statement: Statement, phase: Phase) -> NoReturn:
        if isinstance(error, NotSent):
            raise unreachable(error, place=self.place, operation=statement.name) from error
        if isinstance(error, TimeoutError):
            link.drop()
        lost = not link.alive()
        explained = self.explain(error, phase=phase, lost=lost, statement=statement, place=self.place)
        if explained is error:
            raise error
        raise explained from error


class JoinedLinkSync(JoinedSync):
    """An open transaction as a backend for blocking code."""

    def __init__(self, owner: LinkedSync, link: SyncLink, *, restartable: bool) -> None:
        super().__init__(owner.place, timeout=owner.timeout, clock=owner.clock, random=owner.random)
        self.dialect = owner.dialect  # type: ignore[misc]  # as that of the owner
        self._owner = owner
        self._open = [link]  # shared by copies, emptied at the end
        self._phase = Phase.WITHIN if restartable else Phase.JOINED
        self.restartable = restartable
        """It is holdfast's own transaction, and no function of the user's was called in it."""

    def query(self, request: Query[T]) -> T:
        """Carry out one statement in the open transaction.

        Raises:
            BackendUnavailable: the statement failed, or the connection and with it the transaction is lost.
        """
        return request.decode(self.fetch(request))

    def fetch(self, request: Query[Any]) -> Sequence[Row]:
        """Return the rows of one statement."""
        return self._owner.fetch_on(self._link(), request, self._phase, self.timeout)

    def run_function(self, function: Callable[..., T], *args: object) -> T:
        """Call `function`; from now on the transaction is not begun again by itself."""
        self.restartable = False
        return super().run_function(function, *args)

    def end(self) -> None:
        """Refuse everything from now on: the transaction is over."""
        self._open.clear()

    def _link(self) -> SyncLink:
        if not self._open:
            message = "this transaction has ended; a joined backend lives as long as its block"
            raise RuntimeError(message)
        return self._open[0]
