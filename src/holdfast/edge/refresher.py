"""Fetch stale entries again in the background (RFC 5861, 3): one call per variant at a time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from holdfast import signals
from holdfast.edge._asgi import Scope
from holdfast.edge.entry import Entry
from holdfast.edge.flight import Flight
from holdfast.edge.flights import Flights
from holdfast.edge.request import CacheRequest, selecting

__all__ = ["RefreshFailed", "Refresher"]

_logger = logging.getLogger("holdfast.edge")
# Statuses that say that the old response is wrong by now. Others (429, 5xx, and what a strange request
# may provoke) say nothing about it, so it stays until its window ends.
_REPLACES = frozenset({*range(200, 400), 404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFailed(signals.Signal):
    """A background fetch brought no new response; the stale one stays until its window ends.

    Attributes:
        key: the primary cache key.
        reason: `error`, `timeout` or `status`.
        status: the origin's status code, 0 when it sent none.
    """

    key: str
    reason: str
    status: int


class Refresher:
    """Starts background fetches, no more than `limit` at once, each ended after `timeout` seconds."""

    def __init__(self, flights: Flights, *, limit: int, timeout: float) -> None:
        self._flights = flights
        self._limit = limit
        self._timeout = timeout
        self.tasks: set[asyncio.Task[None]] = set()

    def refresh(self, request: CacheRequest, entry: Entry, scope: Scope) -> None:
        """Fetch `entry` again, unless that is under way or too much else is; never waits."""
        variant = selecting(entry.vary, request.headers)
        if len(self.tasks) >= self._limit or self._flights.find(request.key, variant) is not None:
            return
        request = replace(request, method="GET")
        flight = self._flights.launch(request, variant, scope, reading=False)
        task = asyncio.create_task(self._see_through(request.key, flight), name="holdfast-edge-refresh")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _see_through(self, key: str, flight: Flight) -> None:
        finished = await flight.finish(self._timeout)
        outcome, status = flight.collector.outcome, flight.collector.status
        if isinstance(outcome, Entry):
            return
        if not finished:
            self._report(key, "timeout", status)
        elif flight.error is not None or outcome is None or outcome.reason == "incomplete":
            self._report(key, "error", status)
        elif status not in _REPLACES:
            self._report(key, "status", status)
        elif not outcome.about_request:
            # The origin has spoken: the old response is no longer its answer, and the new one is not ours
            # to keep.
            await self._flights.invalidate(key)

    def _report(self, key: str, reason: str, status: int) -> None:
        _logger.warning("refreshing %r failed: %s (status %d)", key, reason, status)
        if signals.subscribers:
            signals.emit(RefreshFailed(key=key, reason=reason, status=status))
