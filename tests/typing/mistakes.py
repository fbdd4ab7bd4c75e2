"""What type checkers must find wrong on the user's side. Never run: mypy and pyright read it.

Each line with a comment is a mistake, and the comment names what each checker must report. One that no longer
reports it complains about the comment instead, because a comment without an error is an error here.
"""
# pyright: reportUnnecessaryComparison=true, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio

import holdfast
from holdfast import Lock, Outbox, TokenBucketLimiter, circuit_breaker, idempotent_execute, retry, timeout
from holdfast.events import Message, SqlBroker, consumer


async def forgotten_await(client: redis.asyncio.Redis) -> None:
    """Without `await` nothing is done, and a coroutine is always true."""
    lock = Lock(client, "a")
    lock.acquire()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    if lock.acquire():  # type: ignore[truthy-bool]  # pyright: ignore[reportUnnecessaryComparison]
        pass
    lease = lock.acquire()
    lease.token  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    async with lock as held:
        held.extend()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
        if held.extend():  # type: ignore[truthy-bool]  # pyright: ignore[reportUnnecessaryComparison]
            pass
    if TokenBucketLimiter(client, capacity=10, refill_rate=1).is_allowed("key"):  # type: ignore[truthy-bool]  # pyright: ignore[reportUnnecessaryComparison]
        pass
    db = holdfast.connect_async("sqlite:///a.db")
    Outbox(db).add("topic", {"a": 1})  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    idempotent_execute(db, "key", "/", answer_async)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


async def wrong_block(client: redis.Redis, async_client: redis.asyncio.Redis) -> None:
    """The block has the colour of the client."""
    with Lock(async_client, "a"):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    async with Lock(client, "a"):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        pass


async def wrong_colour(client: redis.Redis) -> None:
    """What blocks cannot be awaited, and what an asyncio client is given must be awaitable."""
    await Lock(client, "a").acquire()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await Outbox(holdfast.connect("sqlite:///a.db")).add("topic", {"a": 1})  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    db = holdfast.connect_async("sqlite:///a.db")
    await idempotent_execute(db, "key", "/", answer)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]

    @consumer(db, SqlBroker(db), topic="t", name="n")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def handle(tx: Any, message: Message) -> None:
        """Block the event loop."""


def wrong_value(client: redis.Redis) -> None:
    """Results have the types of what was called."""
    Lock(client, "a").acquire().extend()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    number: int = idempotent_execute(client, "key", "/", answer)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    Lock("redis://localhost", "a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    guarded("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    guarded(number, 6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    retry(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def answer() -> str:
    """An answer."""
    return ""


async def answer_async() -> str:
    """An answer."""
    return ""


@circuit_breaker()
@retry()
def guarded(amount: int) -> str:
    """A guarded function."""
    return str(amount)


@timeout(1.0)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
def limited() -> None:
    """Nothing can stop a thread."""
