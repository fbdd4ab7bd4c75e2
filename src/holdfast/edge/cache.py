"""`EdgeCache`, the ASGI middleware: reads, decides, and does what was decided.

The decisions are pure and elsewhere: `decision` (what to answer), `storage` and `freshness` (what may be
stored, for how long), `collector` (an entry out of messages). Read those first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from holdfast import checks, signals
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.edge import cache_status
from holdfast.edge._asgi import Application, Message, Receive, Scope, Send, with_header_list
from holdfast.edge.collector import Collector
from holdfast.edge.conditional import CONDITIONS, is_not_modified
from holdfast.edge.decision import Bypass, Fresh, Miss, StaleRevalidate, decide
from holdfast.edge.entry import Entry
from holdfast.edge.flight import Flight
from holdfast.edge.flights import Flights
from holdfast.edge.freshness import Policy
from holdfast.edge.refresher import Refresher
from holdfast.edge.request import CacheRequest, KeyFunction, default_key, read_request, selecting
from holdfast.edge.store import MemoryStore, Store
from holdfast.edge.withheld import Withheld
from holdfast.errors import ConfigurationError

__all__ = ["CacheServed", "EdgeCache", "Outcome"]

Outcome: TypeAlias = Literal["hit", "stale", "collapsed", "miss", "bypass"]
# RFC 9110, 9.2.1. A method that is not known to be safe is taken for unsafe.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_NON_ERROR = range(200, 400)
# How often a request joins or starts a shared call before it asks on its own: once because the variants
# of a new key are not known yet, once more because a call may fail.
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheServed(signals.Signal):
    """The cache has decided how a request is answered.

    Attributes:
        outcome: `hit` (fresh), `stale` (while it is fetched again), `collapsed` (the answer to another
            request that was under way), `miss` (asked the origin), `bypass` (took no part).
        key: the primary cache key, empty when the request has none.
        age: seconds, None unless the response came from the store.
        reason: why the origin was asked, in the words of RFC 9211, 2.2; empty when it was not.
    """

    outcome: Outcome
    key: str
    age: float | None = None
    reason: str = ""


class EdgeCache:
    """Keep an ASGI application's GET responses and answer from them, as a shared cache of RFC 9111.

    Guarantees: stores only what its origin, or `ttl` where the origin is silent, allows to share; sends
    a stale response only within stale-while-revalidate; one call of the application for any number of
    concurrent requests for one variant. Does not guarantee that two processes hold the same response,
    nor that an invalidation in one reaches the other.

    One instance belongs to one event loop.

    Args:
        app: the ASGI application, or the next middleware.
        ttl: freshness lifetime in seconds of a success or permanent redirect that states none (no
            max-age, s-maxage, Expires, no-store, private or no-cache), > 0. None: such responses are not
            stored. Never applied to requests with Cookie or Authorization.
        stale_while_revalidate: seconds after the lifetime in which a response may be sent while it is
            fetched again, > 0, where the response says nothing about it and does not forbid it
            (must-revalidate, proxy-revalidate, s-maxage). None: only where the response allows it.
        max_entries: most stored responses, variants counted, >= 1.
        max_bytes: most memory of all of them, estimated, >= 1.
        max_body_bytes: longest body that is stored, 1 to `max_bytes`; longer ones are passed through.
        max_variants: most variants of one key, >= 1, so that an invented header cannot empty the cache.
        max_refreshes: most background fetches at once, >= 1; beyond it stale responses are sent unrefreshed.
        collapse_timeout: seconds that a request waits for another one's call before it makes its own, > 0.
        refresh_timeout: seconds after which a background fetch is ended, > 0.
        drain_timeout: seconds that a shutdown waits for background fetches before it cancels them, > 0.
        key: names the resource of a request, for every method alike; None: leave the request alone.
        store: keeps the responses; the `max_` options of the built-in one do not apply to another.
        clock: source of time.

    Raises:
        ConfigurationError: an argument is out of its range.

    Source: RFC 9111 (caching), RFC 5861 (stale-while-revalidate), RFC 9211 (Cache-Status).
    """

    def __init__(
        self,
        app: Application,
        *,
        ttl: float | None = None,
        stale_while_revalidate: float | None = None,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 2**20,
        max_body_bytes: int = 2**20,
        max_variants: int = 32,
        max_refreshes: int = 64,
        collapse_timeout: float = 5.0,
        refresh_timeout: float = 30.0,
        drain_timeout: float = 5.0,
        key: KeyFunction = default_key,
        store: Store | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        _check_callable("app", app, "an ASGI application")
        _check_callable("key", key, "a function of the scope")
        policy = Policy(
            ttl=checks.optional_positive("ttl", ttl),
            stale_while_revalidate=checks.optional_positive("stale_while_revalidate", stale_while_revalidate),
        )
        max_bytes = checks.at_least("max_bytes", max_bytes, 1)
        checks.between("max_body_bytes", checks.at_least("max_body_bytes", max_body_bytes, 1), 1, max_bytes)
        self._app = app
        self._key = key
        self._clock = clock
        self._store = store or MemoryStore(
            max_entries=checks.at_least("max_entries", max_entries, 1),
            max_bytes=max_bytes,
            max_variants=checks.at_least("max_variants", max_variants, 1),
        )
        self._flights = Flights(app, self._store, policy=policy, clock=clock, max_body_bytes=max_body_bytes)
        self._refresher = Refresher(
            self._flights,
            limit=checks.at_least("max_refreshes", max_refreshes, 1),
            timeout=checks.positive("refresh_timeout", refresh_timeout),
        )
        self._collapse_timeout = checks.positive("collapse_timeout", collapse_timeout)
        self._drain_timeout = checks.positive("drain_timeout", drain_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, self._draining(receive), send)
        else:
            await self._app(scope, receive, send)

    async def invalidate(self, key: str) -> None:
        """Forget every variant of `key`, also what is being fetched for it."""
        await self._flights.invalidate(key)

    async def aclose(self) -> None:
        """Wait for background fetches, then cancel what is left of them after `drain_timeout`.

        Called by itself when the server announces its shutdown over the lifespan protocol; call it where
        there is none.
        """
        if tasks := self._refresher.tasks | self._flights.tasks:
            _, late = await asyncio.wait(tasks, timeout=self._drain_timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = with_header_list(scope)
        request = read_request(scope, self._key)
        found = None
        if request.bypass is None:
            found = await self._store.get(request.key, request.headers)
        decision = decide(request, found, self._clock.monotonic())
        match decision:
            case Fresh(entry, age):
                _tell("hit", request, age=age)
                await self._answer(request, entry, age, cache_status.hit(entry.fresh_for - age), send)
            case StaleRevalidate(entry, age):
                self._refresher.refresh(request, entry, scope)
                _tell("stale", request, age=age)
                await self._answer(request, entry, age, cache_status.hit(entry.fresh_for - age), send)
            case Miss():
                await self._fetch(request, decision, scope, receive, send)
            case Bypass(reason):
                _tell("bypass", request, reason=reason)
                await self._pass_through(request, reason, scope, receive, send)
            case _:
                assert_never(decision)

    async def _answer(self, request: CacheRequest, entry: Entry, age: float, status_line: bytes, send: Send) -> None:
        if is_not_modified(request.headers, entry, wall=self._clock.wall()):
            status, lines, body = 304, entry.not_modified_headers(), b""
        else:
            status, lines, body = entry.status, entry.headers, entry.body
        # A new list: middleware on the way out may change it in place.
        headers = [*lines, (b"age", b"%d" % age), (b"cache-status", status_line)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if request.method == "HEAD" else body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _fetch(self, request: CacheRequest, miss: Miss, scope: Scope, receive: Receive, send: Send) -> None:
        reason, vary = miss.reason, miss.vary
        if miss.collapse and not self._flights.must_be_alone(request):
            for _ in range(_ROUNDS):
                variant = selecting(vary, request.headers)
                flight = self._flights.find(request.key, variant)
                if flight is None:
                    _tell("miss", request, reason=reason)
                    flight = self._flights.launch(request, variant, scope, reading=True)
                    await self._lead(flight, reason, receive, send)
                    return
                if not await flight.follow(self._collapse_timeout):
                    self._flights.waited_in_vain(flight)
                    break
                result = flight.result
                if isinstance(result, Entry):
                    if await self._share(request, result, reason, send):
                        return
                    vary = result.vary
                elif result is not None and not result.about_request:
                    break
        _tell("miss", request, reason=reason)
        collector = self._flights.watch(request)
        await self._flights.alone(collector, scope, receive, _marking(send, reason, collector))

    async def _lead(self, flight: Flight, reason: str, receive: Receive, send: Send) -> None:
        request, collector = flight.collector.request, flight.collector
        marking_send = _marking(send, reason, collector)
        if CONDITIONS.isdisjoint(request.headers):
            await flight.lead(receive, marking_send)
            return

        async def answer(entry: Entry) -> None:
            status_line = cache_status.forwarded(reason, stored=not collector.forbidden)
            await self._answer(request, entry, entry.age(self._clock.monotonic()), status_line, send)

        withheld = Withheld(collector, marking_send, answer=answer, clock=self._clock)
        await flight.lead(receive, withheld.send)
        await withheld.release()

    async def _share(self, request: CacheRequest, entry: Entry, reason: str, send: Send) -> bool:
        """Answer with the result of another request's call, if it fits this one too."""
        if selecting(entry.vary, request.headers) != entry.variant:
            return False
        decision = decide(request, entry, self._clock.monotonic())
        if not isinstance(decision, (Fresh, StaleRevalidate)):
            return False
        _tell("collapsed", request, age=decision.age, reason=reason)
        status_line = cache_status.forwarded(reason, collapsed=True)
        await self._answer(request, entry, decision.age, status_line, send)
        return True

    async def _pass_through(
        self, request: CacheRequest, reason: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def watching_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                # RFC 9111, 4.4: invalidate the target URI on a non-error status (2xx, 3xx) in response to an
                # unsafe method; before the sender sees it, so that its next GET finds its own change.
                if request.key and request.method not in _SAFE and message["status"] in _NON_ERROR:
                    await self._flights.invalidate(request.key)
                message = cache_status.marked(message, cache_status.forwarded(reason))
            await send(message)

        await self._app(scope, receive, watching_send)

    def _draining(self, receive: Receive) -> Receive:
        async def draining_receive() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                # Before the application hears of it: the fetches still need what it is about to close.
                await self.aclose()
            return message

        return draining_receive


def _check_callable(parameter: str, value: object, legal: str) -> None:
    if not callable(value):
        raise ConfigurationError(f"{parameter}={checks.shown(value)} is not legal: give {legal}", parameter=parameter)


def _marking(send: Send, reason: str, collector: Collector) -> Send:
    async def marking_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            stored = collector.will_store
            message = cache_status.marked(message, cache_status.forwarded(reason, stored=stored))
        await send(message)

    return marking_send


def _tell(outcome: Outcome, request: CacheRequest, *, age: float | None = None, reason: str = "") -> None:
    if signals.subscribers:
        signals.emit(CacheServed(outcome=outcome, key=request.key, age=age, reason=reason))
