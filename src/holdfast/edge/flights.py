"""All calls of the origin that are under way.

Three things need them in one place: a request that wants to join a call, an unsafe request that makes
what is being fetched obsolete, and a shutdown that waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from holdfast.clock import Clock
from holdfast.edge._asgi import Application, Message, Receive, Scope, Send, with_header_list
from holdfast.edge.collector import Collector
from holdfast.edge.conditional import CONDITIONS, without_conditions
from holdfast.edge.entry import Entry
from holdfast.edge.flight import Flight
from holdfast.edge.freshness import Policy
from holdfast.edge.request import CacheRequest, Variant
from holdfast.edge.storage import NotStorable
from holdfast.edge.store import Store

__all__ = ["Flights"]

_logger = logging.getLogger("holdfast.edge")
# For so many seconds after an answer that cannot be shared, or did not end in time, requests for its key do
# not wait for each other: the second would only be slower, and then ask the origin all the same.
LONE_SECONDS = 10.0
MAX_LONE_KEYS = 10_000
_FIRST_ERROR = 400
_NOT_MODIFIED = 304


class Flights:
    """Starts calls of the origin and stores what comes of them."""

    def __init__(self, app: Application, store: Store, *, policy: Policy, clock: Clock, max_body_bytes: int) -> None:
        self._app = app
        self._store = store
        self._policy = policy
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._flights: dict[tuple[str, Variant], Flight] = {}
        self._collecting: dict[str, set[Collector]] = {}
        # By key, and whether it concerns only requests with a cookie.
        self._lone: OrderedDict[tuple[str, bool], float] = OrderedDict()
        # The loop itself refers to its tasks only weakly.
        self.tasks: set[asyncio.Task[None]] = set()

    def find(self, key: str, variant: Variant) -> Flight | None:
        """Return the flight that a request may join: under way, and begun after the last invalidation."""
        flight = self._flights.get((key, variant))
        return None if flight is None or flight.landed or flight.collector.forbidden else flight

    def launch(self, request: CacheRequest, variant: Variant, scope: Scope, *, reading: bool) -> Flight:
        """Call the origin for `request` in a task of its own."""
        flight = Flight(self.watch(request), keep=self._keep, reading=reading)
        place = (request.key, variant)
        self._flights[place] = flight
        flight.take_off(self._app, _whole(scope, request))
        assert flight.task is not None
        self.tasks.add(flight.task)
        flight.task.add_done_callback(lambda task: self._ended(task, flight, place))
        return flight

    async def alone(self, collector: Collector, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the origin for one request, in its own task, and store the answer if that may be.

        The client's conditions go along: a 304 is no loss where nobody else waits for the answer.
        """

        async def collecting_send(message: Message) -> None:
            message = with_header_list(message)
            undecided = collector.outcome is None
            collector.feed(message)
            if undecided and collector.outcome is not None:
                await self._keep(collector)
            await send(message)

        try:
            await self._app(scope, receive, collecting_send)
        finally:
            self._unwatch(collector)

    async def invalidate(self, key: str) -> None:
        """Forget `key`, also what is being fetched for it: that may have been read before the change."""
        for collector in self._collecting.get(key, ()):
            collector.forbidden = True
        await self._store.delete(key)

    def must_be_alone(self, request: CacheRequest) -> bool:
        """Return whether the last answer to such a request could not be shared, or did not end in time."""
        until = self._lone.get((request.key, False), 0.0)
        if b"cookie" in request.headers:
            until = max(until, self._lone.get((request.key, True), 0.0))
        return until > self._clock.monotonic()

    def waited_in_vain(self, flight: Flight) -> None:
        """Note that a request gave up waiting for `flight`.

        A body that has begun and does not end may go on for hours, and nobody else shall wait for it. A call
        without an answer so far is left shared: an origin that is slow to begin is what sharing protects.
        """
        if flight.collector.status and not flight.landed:
            self._ask_alone((flight.collector.request.key, False))

    def watch(self, request: CacheRequest) -> Collector:
        """Return the collector of an answer that is about to be fetched."""
        collector = Collector(request, policy=self._policy, clock=self._clock, max_body_bytes=self._max_body_bytes)
        self._collecting.setdefault(request.key, set()).add(collector)
        return collector

    def _unwatch(self, collector: Collector) -> None:
        key = collector.request.key
        if (collectors := self._collecting.get(key)) is not None:
            collectors.discard(collector)
            if not collectors:
                del self._collecting[key]

    async def _keep(self, collector: Collector) -> None:
        outcome, request = collector.outcome, collector.request
        if isinstance(outcome, Entry):
            self._lone.pop((request.key, False), None)
            if not collector.forbidden:
                await self._store.put(request.key, outcome, request.headers)
        # Errors do not count: any client can provoke one, and would switch the collapsing off for all. Nor
        # does a 304, which says nothing about the response that it stands for.
        elif isinstance(outcome, NotStorable) and collector.status < _FIRST_ERROR and collector.status != _NOT_MODIFIED:
            self._remember_lone(request, outcome)
        self._unwatch(collector)

    def _remember_lone(self, request: CacheRequest, outcome: NotStorable) -> None:
        # HEAD and Authorization wait for nobody anyway; a session must not speak for those without one.
        if outcome.about_request and outcome.reason != "cookie":
            return
        self._ask_alone((request.key, outcome.about_request))

    def _ask_alone(self, place: tuple[str, bool]) -> None:
        self._lone[place] = self._clock.monotonic() + LONE_SECONDS
        self._lone.move_to_end(place)
        if len(self._lone) > MAX_LONE_KEYS:
            self._lone.popitem(last=False)

    def _ended(self, task: asyncio.Task[None], flight: Flight, place: tuple[str, Variant]) -> None:
        self.tasks.discard(task)
        self._unwatch(flight.collector)
        if self._flights.get(place) is flight:
            del self._flights[place]
        if flight.unheard and isinstance(flight.error, Exception):
            _logger.error("fetching %r failed", place[0], exc_info=flight.error)


def _whole(scope: Scope, request: CacheRequest) -> Scope:
    """Return the scope of a request for the whole response, without the client's conditions."""
    if request.method == scope["method"] and CONDITIONS.isdisjoint(request.headers):
        return scope
    return {**scope, "method": request.method, "headers": without_conditions(list(scope["headers"]))}
