"""Many requests, one call of the origin, and nobody stranded when it goes wrong."""

import asyncio
import logging
from typing import Any

import pytest

from tests.unit.edge.driver import Answer, Origin, ask, caching, make_scope, no_content, settle


def gated(**headers: Any) -> Origin:
    origin = Origin(**headers)
    origin.gate = asyncio.Event()
    return origin


def start(cache: Any, path: str = "/", **options: Any) -> asyncio.Task[Answer]:
    return asyncio.create_task(ask(cache, path, **options))


async def test_a_thousand_concurrent_misses_are_one_call() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache) for _ in range(1_000)]
    await settle()
    origin.gate.set()
    answers = await asyncio.gather(*tasks)
    assert len(origin.calls) == 1
    assert {answer.body for answer in answers} == {b"answer 1"}
    statuses = [answer.cache for answer in answers]
    assert statuses.count("holdfast; fwd=uri-miss") == 1
    assert statuses.count("holdfast; fwd=uri-miss; collapsed") == 999


async def test_different_keys_do_not_wait_for_each_other() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache, f"/{number}") for number in range(10)]
    await settle()
    assert len(origin.calls) == 10
    origin.gate.set()
    await asyncio.gather(*tasks)


async def test_variants_of_a_new_key_are_one_call_each() -> None:
    origin = gated()
    origin.headers = lambda scope: {
        "vary": "accept-language",
        "content-language": dict(scope["headers"])[b"accept-language"].decode(),
    }
    cache, _ = caching(origin, ttl=60)
    languages = ["de", "fr", "it", "es", "pt", "nl"] * 10
    tasks = [start(cache, headers={"accept-language": language}) for language in languages]
    await settle()
    origin.gate.set()
    answers = await asyncio.gather(*tasks)
    assert [answer.header("content-language") for answer in answers] == languages
    assert len(origin.calls) == 6


async def test_a_cancelled_leader_leaves_its_call_to_the_followers() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    leader = start(cache)
    await settle()
    followers = [start(cache) for _ in range(10)]
    await settle()
    leader.cancel()
    await settle()
    origin.gate.set()
    answers = await asyncio.gather(*followers)
    assert leader.cancelled()
    assert {answer.body for answer in answers} == {b"answer 1"}
    assert len(origin.calls) == 1


async def test_a_call_that_nobody_waits_for_is_cancelled() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache) for _ in range(5)]
    await settle()
    for task in tasks:
        task.cancel()
    await settle()
    assert origin.cancelled == 1
    assert not cache._flights.tasks
    assert not cache._flights._flights
    assert not cache._flights._collecting


async def test_a_cancelled_follower_disturbs_nobody() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    leader, gone, follower = start(cache), start(cache), start(cache)
    await settle()
    gone.cancel()
    origin.gate.set()
    assert (await leader).body == (await follower).body == b"answer 1"


async def test_a_leader_that_fails_does_not_fail_the_others() -> None:
    calls = 0

    async def fails_once(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ValueError("first call")
        await Origin(body=b"good")(scope, receive, send)

    cache, _ = caching(fails_once, ttl=60)
    results = await asyncio.gather(*(ask(cache) for _ in range(50)), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len(errors) == 1
    assert str(errors[0]) == "first call"
    assert {result.body for result in results if isinstance(result, Answer)} == {b"good"}
    assert calls == 2


async def test_an_origin_that_always_fails_makes_nobody_wait_in_a_queue() -> None:
    origin = gated()
    origin.error = ValueError("down")
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache) for _ in range(100)]
    await settle()
    origin.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ValueError) for result in results)
    assert len(origin.calls) == 100
    assert not cache._flights._collecting


@pytest.mark.parametrize("headers", [{"cache_control": "private"}, {"set_cookie": "a=b"}])
async def test_followers_of_a_private_answer_get_their_own(headers: dict[str, str]) -> None:
    origin = gated(**headers)
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache) for _ in range(20)]
    await settle()
    origin.gate.set()
    answers = await asyncio.gather(*tasks)
    assert len({answer.body for answer in answers}) == 20


async def test_after_a_private_answer_requests_no_longer_wait_for_each_other() -> None:
    origin = Origin(cache_control="private")
    cache, clock = caching(origin)
    await ask(cache)
    origin.gate = asyncio.Event()
    tasks = [start(cache) for _ in range(20)]
    await settle()
    assert len(origin.calls) == 21
    # Once the page is shareable again, so is the call.
    origin.headers = {"cache-control": "max-age=5"}
    origin.gate.set()
    await asyncio.gather(*tasks)
    clock.now = 6
    origin.gate.clear()
    tasks = [start(cache) for _ in range(20)]
    await settle()
    origin.gate.set()
    await asyncio.gather(*tasks)
    assert len(origin.calls) == 22


async def test_an_error_that_a_client_provokes_does_not_switch_collapsing_off() -> None:
    origin = Origin(status=406)
    cache, _ = caching(origin, ttl=60)
    await ask(cache, headers={"accept": "strange"})
    origin.status, origin.gate = 200, asyncio.Event()
    tasks = [start(cache) for _ in range(20)]
    await settle()
    origin.gate.set()
    await asyncio.gather(*tasks)
    assert len(origin.calls) == 2


async def test_a_session_that_leads_does_not_switch_collapsing_off() -> None:
    """Under a ttl its own answer is not shared; of the others, one asks for all."""
    origin = gated()
    cache, clock = caching(origin, ttl=60)
    session = start(cache, headers={"cookie": "session=1"})
    await settle()
    tasks = [start(cache) for _ in range(50)]
    await settle()
    origin.gate.set()
    answers = await asyncio.gather(*tasks)
    assert (await session).body == b"answer 1"
    assert {answer.body for answer in answers} == {b"answer 2"}
    # From now on sessions ask on their own, and at once.
    clock.now = 9
    await cache.invalidate("http://shop.test/?")
    origin.gate.clear()
    sessions = [start(cache, headers={"cookie": f"session={n}"}) for n in range(5)]
    await settle()
    assert len(origin.calls) == 7
    origin.gate.set()
    await asyncio.gather(*sessions)


async def test_requests_with_authorization_wait_for_nobody() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    tasks = [start(cache, headers={"authorization": str(number)}) for number in range(5)]
    await settle()
    assert len(origin.calls) == 5
    origin.gate.set()
    assert len({answer.body for answer in await asyncio.gather(*tasks)}) == 5


async def test_a_follower_stops_waiting_for_a_slow_leader() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60, collapse_timeout=0.01)
    leader, follower = start(cache), start(cache)
    await origin.called(2)
    origin.gate.set()
    assert {(await leader).body, (await follower).body} == {b"answer 1", b"answer 2"}


@pytest.mark.parametrize("headers", [{}, {"authorization": "x"}])
async def test_an_answer_read_before_a_change_is_not_stored_after_it(headers: dict[str, str]) -> None:
    """GET reads the old state, POST changes it and invalidates, then the GET's answer arrives."""
    origin = gated(cache_control="s-maxage=60")
    cache, _ = caching(origin, collapse_timeout=3_600)
    slow = start(cache, headers=headers)
    await settle()
    gate, origin.gate = origin.gate, None
    await ask(cache, method="POST")
    fresh = await ask(cache)
    gate.set()
    assert (await slow).body == b"answer 1"
    assert fresh.body == b"answer 3"
    assert (await ask(cache)).body == b"answer 3"


# Clients that hang up: a server tells it over receive() and cancels nothing --------------------------------


class Connection:
    """The receive() of a client without content, which hangs up when the test says so."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()
        self._messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def __call__(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self.hung_up.wait()
        return {"type": "http.disconnect"}


def connect(cache: Any, answer: Answer) -> tuple[Connection, asyncio.Task[None]]:
    connection = Connection()
    return connection, asyncio.create_task(cache(make_scope(), connection, answer.send))


async def test_a_call_ends_when_its_only_client_hangs_up() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    connection, request = connect(cache, Answer())
    await settle()
    connection.hung_up.set()
    await request
    await settle()
    assert origin.cancelled == 1
    assert not cache._flights.tasks
    assert not cache._flights._collecting


async def test_a_call_goes_on_for_the_others_when_the_client_that_caused_it_hangs_up() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)
    connection, request = connect(cache, Answer())
    await settle()
    follower = start(cache)
    await settle()
    connection.hung_up.set()
    await request
    origin.gate.set()
    assert (await follower).body == b"answer 1"
    assert (len(origin.calls), origin.cancelled) == (1, 0)


async def test_an_application_hears_the_hang_up_once_its_answer_is_one_clients_own() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-store")]})
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"said all the same"})

    cache, _ = caching(app)
    answer = Answer()
    connection, request = connect(cache, answer)
    await settle()
    assert heard == ["http.request"]
    connection.hung_up.set()
    await request
    assert heard == ["http.request", "http.disconnect"]
    assert answer.body == b"said all the same"  # to a server that drops it, as without the cache


async def test_after_its_answer_an_application_hears_that_nothing_more_comes() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Origin()(scope, receive, send)
        heard.extend([(await receive())["type"], (await receive())["type"]])

    cache, _ = caching(app, ttl=60)
    connection, request = connect(cache, Answer())
    await request
    assert heard == ["http.request", "http.disconnect"]
    assert not connection.hung_up.is_set()


async def test_a_receive_that_fails_or_has_content_disturbs_no_answer() -> None:
    """Of content that no header announced (HTTP/2) the application sees nothing, for the key does not either."""
    parts = [{"type": "http.request", "body": b"x", "more_body": True}] * 3
    left = list(parts)

    async def failing_receive() -> Any:
        if left:
            return left.pop()
        raise OSError("connection lost")

    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    answer = Answer()
    await cache(make_scope(), failing_receive, answer.send)
    assert answer.body == b"answer 1"
    await settle()
    assert len(asyncio.all_tasks()) == 1


# Streams -----------------------------------------------------------------------------------------------


class Stream:
    """Sends `chunks` chunks of 1000 bytes and notes how far it is ahead of its reader."""

    def __init__(self, chunks: int, *headers: tuple[bytes, bytes], last: bool = True) -> None:
        self.chunks = chunks
        self.headers = list(headers)
        self.last = last
        self.sent = 0
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        for number in range(self.chunks):
            more = number < self.chunks - 1 or not self.last
            await send({"type": "http.response.body", "body": b"x" * 1_000, "more_body": more})
            self.sent += 1


async def test_a_small_stream_is_stored_as_a_whole() -> None:
    stream = Stream(5)
    cache, _ = caching(stream, ttl=60)
    first, second = await ask(cache), await ask(cache)
    assert first.chunks == 5
    assert (second.chunks, second.body) == (1, first.body)
    assert stream.calls == 1


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"100000"),)])
async def test_a_long_stream_passes_through_at_the_readers_pace(headers: Any) -> None:
    stream = Stream(100, *headers)
    cache, _ = caching(stream, ttl=60, max_body_bytes=10_000)
    ahead: list[int] = []
    got = 0

    async def slow_reader(message: Any) -> None:
        nonlocal got
        await settle()
        got += len(message.get("body", b"")) // 1_000
        ahead.append(stream.sent - got)

    await cache(make_scope(), no_content, slow_reader)
    assert got == 100
    assert max(ahead) <= 11
    assert (await ask(cache)).chunks == 100
    assert cache._store.entries == 0  # type: ignore[attr-defined]


async def test_a_stream_reaches_the_leader_while_it_grows() -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b" last"})

    cache, _ = caching(app, ttl=60)
    answer = Answer()
    request = asyncio.create_task(cache(make_scope(), no_content, answer.send))
    await settle()
    assert answer.body == b"first"
    gate.set()
    await request
    assert answer.body == b"first last"


async def test_a_leader_that_reads_slowly_does_not_hold_the_followers_up() -> None:
    cache, _ = caching(Stream(5), ttl=60)
    never = asyncio.Event()

    async def stuck(message: Any) -> None:
        await never.wait()

    leader = asyncio.create_task(cache(make_scope(), no_content, stuck))
    await settle()
    assert len((await ask(cache)).body) == 5_000
    # The application waits for its reader, and is let go when that has gone.
    leader.cancel()
    await settle()
    assert leader.done()
    assert not cache._flights.tasks


async def test_a_leader_whose_connection_breaks_does_not_break_the_followers() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60)

    async def broken(message: Any) -> None:
        raise OSError("connection lost")

    leader = asyncio.create_task(cache(make_scope(), no_content, broken))
    await settle()
    follower = start(cache)
    await settle()
    origin.gate.set()
    assert (await follower).body == b"answer 1"
    with pytest.raises(OSError, match="connection lost"):
        await leader


async def test_the_reader_of_an_endless_stream_ends_it_by_leaving() -> None:
    stream = Stream(10**9, (b"cache-control", b"no-store"))
    cache, _ = caching(stream)
    seen = 0

    async def leaves(message: Any) -> None:
        nonlocal seen
        seen += 1
        await asyncio.sleep(0)

    task = asyncio.create_task(cache(make_scope(), no_content, leaves))
    await settle()
    assert seen > 3
    task.cancel()
    await settle()
    assert not cache._flights.tasks


class Ticker:
    """Says something at once, and has no end."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.headers = headers
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
        await asyncio.Event().wait()


async def listeners(cache: Any, number: int) -> tuple[list[Answer], list[asyncio.Task[None]]]:
    answers = [Answer() for _ in range(number)]
    tasks = [asyncio.create_task(cache(make_scope(), no_content, answer.send)) for answer in answers]
    await settle()
    return answers, tasks


async def hang_up(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nobody_waits_for_the_event_stream_of_another() -> None:
    ticker = Ticker((b"content-type", b"text/event-stream"))
    cache, _ = caching(ticker, ttl=60, collapse_timeout=3_600)
    answers, tasks = await listeners(cache, 5)
    assert [answer.body for answer in answers] == [b"data: tick\n\n"] * 5
    assert ticker.calls == 5
    await hang_up(tasks)


async def test_after_one_has_waited_in_vain_for_a_body_without_end_the_others_do_not_wait() -> None:
    ticker = Ticker()
    cache, _ = caching(ticker, ttl=60, collapse_timeout=0.01)
    _, tasks = await listeners(cache, 2)
    while ticker.calls < 2:  # noqa: ASYNC110 - the second waits on the real clock
        await asyncio.sleep(0.001)
    cache._collapse_timeout = 3_600
    answers, late = await listeners(cache, 3)
    assert [answer.body for answer in answers] == [b"data: tick\n\n"] * 3
    await hang_up(tasks + late)


async def test_an_origin_that_is_slow_to_begin_stays_shared_after_one_has_waited_in_vain() -> None:
    origin = gated()
    cache, _ = caching(origin, ttl=60, collapse_timeout=0.01)
    early = [start(cache), start(cache)]
    await origin.called(2)
    cache._collapse_timeout = 3_600
    late = [start(cache) for _ in range(10)]
    await settle()
    assert len(origin.calls) == 2
    origin.gate.set()
    await asyncio.gather(*early, *late)


@pytest.mark.parametrize(
    "stream",
    [
        Stream(3, last=False),
        Stream(3, (b"content-length", b"4000")),
        Stream(3, (b"content-length", b"2999")),
        Stream(3, (b"content-length", b"3000"), (b"content-length", b"3000")),
    ],
)
async def test_an_incomplete_answer_is_never_stored(stream: Stream) -> None:
    """RFC 9111, 3.3."""
    cache, _ = caching(stream, ttl=60)
    await ask(cache)
    await ask(cache)
    assert stream.calls == 2


async def test_an_answer_that_breaks_off_is_not_stored_and_its_error_is_passed_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("broke off")

    cache, _ = caching(app, ttl=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="broke off"):
            await ask(cache)
    assert cache._store.entries == 0  # type: ignore[attr-defined]


async def test_an_answer_with_trailers_or_a_file_path_passes_through_unstored() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/file"})

    cache, _ = caching(app, ttl=60)
    seen: list[str] = []

    async def note(message: Any) -> None:
        seen.append(message["type"])

    await cache(make_scope(), no_content, note)
    assert seen == ["http.response.start", "http.response.pathsend"]
    assert cache._store.entries == 0  # type: ignore[attr-defined]


async def test_work_after_the_answer_is_not_cut_off_when_the_client_leaves() -> None:
    done = asyncio.Event()
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Origin()(scope, receive, send)
        await go_on.wait()
        done.set()

    cache, _ = caching(app, ttl=60)
    request = start(cache)
    await settle()
    request.cancel()
    await settle()
    go_on.set()
    await settle()
    assert done.is_set()


async def test_an_error_after_the_leader_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    origin = gated()
    origin.error = ValueError("nobody hears this")
    cache, _ = caching(origin, ttl=60)
    leader = start(cache)
    await settle()
    follower = start(cache)
    await settle()
    leader.cancel()
    await settle()
    with caplog.at_level(logging.ERROR, "holdfast.edge"):
        origin.gate.set()
        with pytest.raises(ValueError, match="nobody"):
            await follower  # its own second call
    assert "fetching 'http://shop.test/?' failed" in caplog.text
