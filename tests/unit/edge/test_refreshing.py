"""Stale while revalidate: an answer at once, one fetch behind it, and a shutdown that waits."""

import asyncio
import logging
from typing import Any

import pytest

from holdfast import signals
from holdfast.edge import RefreshFailed
from tests.unit.edge.driver import Origin, ask, caching, no_content, settle


async def stale(origin: Origin, **options: Any) -> tuple[Any, Any]:
    """A cache whose entry for / is stale but within its window."""
    cache, clock = caching(origin, ttl=60, stale_while_revalidate=30, **options)
    await ask(cache)
    clock.now = 61
    return cache, clock


async def test_a_stale_answer_comes_at_once_and_the_next_is_new() -> None:
    origin = Origin()
    cache, clock = await stale(origin)
    answer = await ask(cache)
    assert (answer.body, answer.cache, answer.header("age")) == (b"answer 1", "holdfast; hit; ttl=-1", "61")
    await settle()
    clock.now = 62
    answer = await ask(cache)
    assert (answer.body, answer.cache) == (b"answer 2", "holdfast; hit; ttl=59")


async def test_one_fetch_for_any_number_of_stale_answers() -> None:
    origin = Origin()
    cache, _ = await stale(origin)
    origin.gate = asyncio.Event()
    answers = await asyncio.gather(*(ask(cache) for _ in range(1_000)))
    assert {answer.body for answer in answers} == {b"answer 1"}
    origin.gate.set()
    await settle()
    assert len(origin.calls) == 2


async def test_after_the_window_a_request_waits_for_the_fetch_under_way() -> None:
    origin = Origin()
    cache, clock = await stale(origin)
    origin.gate = asyncio.Event()
    await ask(cache)
    clock.now = 90
    late = asyncio.create_task(ask(cache))
    await settle()
    origin.gate.set()
    assert (await late).cache == "holdfast; fwd=stale; collapsed"
    assert len(origin.calls) == 2


async def test_head_is_refreshed_with_get() -> None:
    origin = Origin()
    cache, _ = await stale(origin)
    await ask(cache, method="HEAD", headers={"if-none-match": '"x"'})
    await settle()
    assert origin.calls[1]["method"] == "GET"
    assert (b"if-none-match", b'"x"') not in origin.calls[1]["headers"]
    assert (await ask(cache)).body == b"answer 2"


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [(200, ValueError("down"), "error"), (503, None, "status"), (429, None, "status")],
)
async def test_a_failed_fetch_keeps_the_stale_answer_and_is_told(
    status: int, error: Exception | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[RefreshFailed] = []
    stop = signals.subscribe(RefreshFailed, told.append)
    origin = Origin()
    cache, clock = await stale(origin)
    origin.status, origin.error = status, error
    with caplog.at_level(logging.WARNING, "holdfast.edge"):
        await ask(cache)
        await settle()
    stop()
    assert [record.reason for record in told] == [reason]
    assert "refreshing 'http://shop.test/?' failed" in caplog.text
    assert (await ask(cache)).body == b"answer 1"
    clock.now = 90
    origin.status, origin.error = 200, None
    assert (await ask(cache)).cache.startswith("holdfast; fwd=stale")


@pytest.mark.parametrize(
    ("status", "headers"), [(200, {"cache-control": "private"}), (200, {"set-cookie": "a=b"}), (404, {}), (410, {})]
)
async def test_what_the_origin_no_longer_shares_is_forgotten(status: int, headers: dict[str, str]) -> None:
    origin = Origin()
    cache, _ = await stale(origin)
    origin.status, origin.headers = status, headers
    await ask(cache)
    await settle()
    assert (await ask(cache)).cache == "holdfast; fwd=uri-miss"


async def test_a_session_that_triggers_a_fetch_neither_stores_nor_deletes() -> None:
    origin = Origin(cache_control="max-age=60")
    cache, _ = await stale(origin)
    origin.headers = {}
    await ask(cache, headers={"cookie": "session=1"})
    await settle()
    assert len(origin.calls) == 2
    assert (await ask(cache)).body == b"answer 1"


async def test_a_fetch_that_hangs_is_ended() -> None:
    origin = Origin()
    cache, _ = await stale(origin, refresh_timeout=0.01)
    origin.gate = asyncio.Event()
    await ask(cache)
    await asyncio.gather(*cache._refresher.tasks)
    await settle()
    assert origin.cancelled == 1
    assert not cache._refresher.tasks
    await ask(cache)
    await settle()
    assert len(origin.calls) == 3
    await asyncio.gather(*cache._refresher.tasks)


async def test_only_so_many_fetches_run_at_once() -> None:
    origin = Origin()
    cache, clock = caching(origin, ttl=60, stale_while_revalidate=30, max_refreshes=3)
    for number in range(10):
        await ask(cache, f"/{number}")
    clock.now = 61
    origin.gate = asyncio.Event()
    for number in range(10):
        assert (await ask(cache, f"/{number}")).cache == "holdfast; hit; ttl=-1"
    await settle()
    assert len(origin.calls) == 13
    origin.gate.set()
    await settle()


async def test_a_change_during_a_fetch_is_not_undone_by_it() -> None:
    origin = Origin()
    cache, _ = await stale(origin)
    gate = origin.gate = asyncio.Event()
    await ask(cache)
    await settle()
    origin.gate = None
    await ask(cache, method="POST")
    gate.set()
    await settle()
    assert (await ask(cache)).body == b"answer 4"


async def _shut_down(cache: Any, origin: Origin, events: list[str]) -> asyncio.Task[None]:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        events.append(message["type"])

    return asyncio.create_task(cache({"type": "lifespan"}, receive, send))


class WithLifespan(Origin):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})


async def test_a_shutdown_waits_for_fetches_before_the_application_hears_of_it() -> None:
    origin = WithLifespan()
    cache, clock = await stale(origin)
    origin.gate = asyncio.Event()
    await ask(cache)
    await settle()
    events: list[str] = []
    shutdown = await _shut_down(cache, origin, events)
    await settle()
    assert events == ["lifespan.startup.complete"]
    origin.gate.set()
    await shutdown
    assert events[-1] == "lifespan.shutdown.complete"
    clock.now = 62
    assert (await ask(cache)).body == b"answer 2"


async def test_a_shutdown_does_not_wait_for_ever() -> None:
    origin = WithLifespan()
    cache, _ = await stale(origin, drain_timeout=0.01)
    origin.gate = asyncio.Event()
    await ask(cache)
    await settle()
    events: list[str] = []
    await (await _shut_down(cache, origin, events))
    assert events[-1] == "lifespan.shutdown.complete"
    assert origin.cancelled == 1
    assert not cache._refresher.tasks
    assert not cache._flights.tasks


async def test_closing_an_idle_cache_is_nothing() -> None:
    cache, _ = caching(Origin())
    await cache.aclose()
    await cache.aclose()
    assert (await no_content())["type"] == "http.request"
