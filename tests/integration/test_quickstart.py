"""The quick start runs exactly as written against real servers, and does what it says, in both colours.

The blocking form is the same text without its `async` and `await`: nothing else changes but the client.
"""

import ast
import asyncio
import inspect
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import fastapi
import httpx
import psycopg
import pydantic
import pytest
import redis
import redis.asyncio
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

import holdfast
from holdfast import RedisLock, TokenBucketLimiter, backends, circuit_breaker, idempotent_execute, retry
from holdfast.backends import migrations
from holdfast.errors import CircuitOpen
from holdfast.web.fastapi import install

LOCK = """
async with RedisLock(redis_client, "payment:order-123"):
    await process_payment(order_id)
"""
BREAKER_AND_RETRY = """
@circuit_breaker(failure_threshold=5, recovery_timeout=30)
@retry(max_attempts=3, base_delay=1.0)
async def call_external_api(): ...
"""
IDEMPOTENCY = """
@router.post("/payments")
async def create_payment(data: PaymentCreate, idempotency_key: str = Header(..., alias="Idempotency-Key")):
    return await idempotent_execute(db, idempotency_key, "/payments", process)
"""
LIMITER = """
limiter = TokenBucketLimiter(redis_client, capacity=100, refill_rate=10)
if await limiter.is_allowed(f"user:{user_id}"):
    await handle_request()
"""
COLOURS = pytest.mark.parametrize("colour", ["async", "sync"])
# Nobody waits for so long unless something is broken.
LONG = 20.0


class PaymentCreate(pydantic.BaseModel):
    amount: int


async def now(answer: Any) -> Any:
    """Await `answer` if it is awaitable: so a test reads alike for both colours."""
    return await answer if inspect.isawaitable(answer) else answer


def spelled(snippet: str, colour: str) -> str:
    """Return the snippet in its colour."""
    return snippet if colour == "async" else snippet.replace("async ", "").replace("await ", "")


async def run(snippet: str, colour: str, names: dict[str, Any]) -> dict[str, Any]:
    """Carry the snippet out with `names`, a blocking one in a thread, and return the names it leaves."""
    code = compile(spelled(snippet, colour), "<quick start>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if colour == "async":
        await now(eval(code, names))
    else:
        await asyncio.to_thread(eval, code, names)
    return names


def function(colour: str, body: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function of that colour that calls `body`, whatever its arguments."""

    async def awaited(*_: Any) -> Any:
        return await now(body())

    def blocking(*_: Any) -> Any:
        return body()

    return awaited if colour == "async" else blocking


@pytest.fixture
async def redis_clients(redis_url: str) -> AsyncIterator[dict[str, Any]]:
    async with redis.asyncio.Redis.from_url(redis_url) as awaited:
        with redis.Redis.from_url(redis_url) as blocking:
            yield {"async": awaited, "sync": blocking}


# -- Locks -----------------------------------------------------------------------------------------------------------


@COLOURS
async def test_the_lock_is_held_while_the_payment_is_processed(colour: str, redis_clients: dict[str, Any]) -> None:
    """Nobody else gets it meanwhile, and it is free at once afterwards."""
    # The other member of the fleet has a client of the other colour: it is the same lock.
    rival = RedisLock(redis_clients["async" if colour == "sync" else "sync"], "payment:order-123")
    paid = []

    async def awaited(order_id: str) -> None:
        assert await now(rival.acquire(timeout=0)) is None
        paid.append(order_id)

    def blocking(order_id: str) -> None:
        loop_side = asyncio.run_coroutine_threadsafe(awaited(order_id), loop)
        loop_side.result(LONG)

    loop = asyncio.get_running_loop()
    names = {
        "RedisLock": RedisLock,
        "redis_client": redis_clients[colour],
        "order_id": "123",
        "process_payment": awaited if colour == "async" else blocking,
    }
    await run(LOCK, colour, names)
    assert paid == ["123"]
    assert await now(rival.acquire(timeout=0)) is not None


@COLOURS
async def test_two_payments_of_one_order_never_overlap(colour: str, redis_clients: dict[str, Any]) -> None:
    inside, most, paid = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)

    def leave() -> None:
        nonlocal inside, paid
        inside -= 1
        paid += 1

    async def awaited(_: str) -> None:
        enter()
        await asyncio.sleep(0.01)
        leave()

    def blocking(_: str) -> None:
        enter()
        time.sleep(0.01)
        leave()

    process = awaited if colour == "async" else blocking
    names = {"RedisLock": RedisLock, "redis_client": redis_clients[colour], "order_id": "1", "process_payment": process}
    await asyncio.gather(*(run(LOCK, colour, dict(names)) for _ in range(8)))
    assert (most, paid) == (1, 8)


# -- Circuit breaker and retry ---------------------------------------------------------------------------------------


class Provider:
    """An external API that fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("provider is down")
        return "charged"


@pytest.fixture
def quick_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every draw of the jitter be small: 2 ms before the first retry, 4 ms before the second."""
    monkeypatch.setattr("random.random", lambda: 0.002)


async def calling(colour: str, provider: Provider) -> Callable[[], Any]:
    """Return the quick start's function, whose body calls `provider`."""
    with_body = BREAKER_AND_RETRY.replace(": ...", ": return await now(provider())")
    names = {"circuit_breaker": circuit_breaker, "retry": retry, "provider": provider}
    names["now"] = now if colour == "async" else lambda answer: answer
    done = await run(with_body, colour, names)
    decorated: Callable[[], Any] = done["call_external_api"]
    return decorated


@COLOURS
async def test_the_decorated_function_runs_as_written(colour: str) -> None:
    names = await run(BREAKER_AND_RETRY, colour, {"circuit_breaker": circuit_breaker, "retry": retry})
    assert inspect.iscoroutinefunction(names["call_external_api"]) is (colour == "async")
    assert await now(names["call_external_api"]()) is None


@COLOURS
async def test_a_failing_call_is_tried_three_times(colour: str, quick_dice: None) -> None:
    provider = Provider(failures=2)
    call = await calling(colour, provider)
    began = time.monotonic()
    assert await now(call()) == "charged"
    assert provider.calls == 3
    assert time.monotonic() - began >= 0.002 + 0.004


@COLOURS
async def test_five_failed_operations_open_the_circuit(colour: str, quick_dice: None) -> None:
    """The breaker counts operations, not attempts, and an open circuit calls nobody."""
    provider = Provider(failures=1000)
    call = await calling(colour, provider)
    for _ in range(5):
        with pytest.raises(ConnectionError, match="provider is down"):
            await now(call())
    assert provider.calls == 5 * 3
    with pytest.raises(CircuitOpen) as refused:
        await now(call())
    assert provider.calls == 5 * 3
    assert refused.value.retry_after == pytest.approx(30, abs=5)


# -- Rate limits -----------------------------------------------------------------------------------------------------


@COLOURS
async def test_the_limiter_lets_a_hundred_through(colour: str, redis_clients: dict[str, Any]) -> None:
    """And what trickles in meanwhile; another user has a bucket of his own. Each run makes its own limiter."""
    handled: dict[str, int] = {"7": 0, "8": 0}

    def names(user: str) -> dict[str, Any]:
        def handle() -> None:
            handled[user] += 1

        return {
            "TokenBucketLimiter": TokenBucketLimiter,
            "redis_client": redis_clients[colour],
            "user_id": user,
            "handle_request": function(colour, handle),
        }

    began = time.monotonic()
    for _ in range(160):
        await run(LIMITER, colour, names("7"))
    most = 100 + 10 * (time.monotonic() - began)
    assert 100 <= handled["7"] <= most
    assert most < 160, "the machine is too slow to tell"
    await run(LIMITER, colour, names("8"))
    assert handled["8"] == 1


# -- Idempotency over HTTP -------------------------------------------------------------------------------------------

TABLE = "create table charge (name text)"
CHARGE = "insert into charge (name) values ('charged')"
COUNT = "select count(*) from charge"


class Database(NamedTuple):
    """A client as the service has it: what the snippet calls `db`, how to write with it, how requests commit."""

    client: Any
    charge: Callable[[], Any]
    commit: Callable[[], Any] | None = None
    """None: the client has no transaction open, so holdfast begins and commits it."""


class Stores(NamedTuple):
    """Where the databases are."""

    postgres: Callable[[], str]
    sqlite: Path


async def _alchemy_async(stores: Stores, closing: AsyncExitStack) -> Database:
    engine = sqlalchemy.ext.asyncio.create_async_engine(stores.postgres().replace("postgresql:", "postgresql+psycopg:"))
    closing.push_async_callback(engine.dispose)
    session = await closing.enter_async_context(sqlalchemy.ext.asyncio.AsyncSession(engine))
    return Database(session, lambda: session.execute(sqlalchemy.text(CHARGE)), session.commit)


async def _psycopg_async(stores: Stores, closing: AsyncExitStack) -> Database:
    connection = await closing.enter_async_context(await psycopg.AsyncConnection.connect(stores.postgres()))
    return Database(connection, lambda: connection.execute(CHARGE))


async def _asyncpg(stores: Stores, closing: AsyncExitStack) -> Database:
    connection = await asyncpg.connect(stores.postgres())
    closing.push_async_callback(connection.close)
    return Database(connection, lambda: connection.execute(CHARGE))


async def _sqlite_async(stores: Stores, closing: AsyncExitStack) -> Database:
    db = await closing.enter_async_context(holdfast.connect_async(f"sqlite:///{stores.sqlite}"))
    return Database(db, lambda: None)


async def _alchemy_sync(stores: Stores, closing: AsyncExitStack) -> Database:
    engine = sqlalchemy.create_engine(stores.postgres().replace("postgresql:", "postgresql+psycopg:"))
    closing.callback(engine.dispose)
    session = closing.enter_context(sqlalchemy.orm.Session(engine))
    return Database(session, lambda: session.execute(sqlalchemy.text(CHARGE)), session.commit)


async def _psycopg_sync(stores: Stores, closing: AsyncExitStack) -> Database:
    connection = closing.enter_context(psycopg.connect(stores.postgres()))
    return Database(connection, lambda: connection.execute(CHARGE))


async def _sqlite3(stores: Stores, closing: AsyncExitStack) -> Database:
    # FastAPI calls blocking routes in threads.
    connection = sqlite3.connect(stores.sqlite, check_same_thread=False)
    closing.callback(connection.close)
    return Database(connection, lambda: connection.execute(CHARGE))


async def _sqlite_sync(stores: Stores, closing: AsyncExitStack) -> Database:
    db = closing.enter_context(holdfast.connect(f"sqlite:///{stores.sqlite}"))
    return Database(db, lambda: None)


CLIENTS: dict[str, tuple[str, Callable[[Stores, AsyncExitStack], Awaitable[Database]]]] = {
    "async SQLAlchemy session": ("async", _alchemy_async),
    "async psycopg": ("async", _psycopg_async),
    "asyncpg": ("async", _asyncpg),
    "async SQLite": ("async", _sqlite_async),
    "SQLAlchemy session": ("sync", _alchemy_sync),
    "psycopg": ("sync", _psycopg_sync),
    "sqlite3": ("sync", _sqlite3),
    "SQLite": ("sync", _sqlite_sync),
}
each_client = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Both databases with the tables they need; PostgreSQL only for those who ask."""
    file = tmp_path / "payments.db"
    with holdfast.connect(f"sqlite:///{file}") as db:
        db.execute(TABLE)
    url = ""

    def postgres() -> str:
        nonlocal url
        if not url:
            url = request.getfixturevalue("postgres_url")
            with holdfast.connect(url) as db:
                migrations.migrate(db)
                db.execute(TABLE)
        return url

    return Stores(postgres, file)


class Service:
    """One instance of the payments service: a FastAPI application around the quick start's route."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def pay(self, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self._http.post("/payments", json={"amount": 995}, headers=headers)


class Ledger:
    """Counts what the services did, and can make them slow or fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.failure: Exception | None = None
        self.pause = 0.0


async def serve(client: str, stores: Stores, ledger: Ledger, closing: AsyncExitStack) -> Service:
    colour, connect = CLIENTS[client]
    db = await connect(stores, closing)
    router = fastapi.APIRouter()

    def began() -> dict[str, Any]:
        ledger.runs += 1
        return {"status": "charged", "run": ledger.runs}

    def ended() -> None:
        if ledger.failure is not None:
            raise ledger.failure

    async def awaited(*tx: Any) -> Any:
        answer = began()
        await (tx[0].execute(CHARGE) if tx else db.charge())
        await asyncio.sleep(ledger.pause)
        ended()
        return answer

    def blocking(*tx: Any) -> Any:
        answer = began()
        _ = tx[0].execute(CHARGE) if tx else db.charge()
        time.sleep(ledger.pause)
        ended()
        return answer

    process: Any = awaited if colour == "async" else blocking
    if isinstance(db.client, backends.Backend):
        # Its transaction is handed in, because nothing else can reach it.
        process = lambda tx, work=process: work(tx)  # noqa: E731
    names = {
        "router": router,
        "PaymentCreate": PaymentCreate,
        "Header": fastapi.Header,
        "idempotent_execute": idempotent_execute,
        "db": db.client,
        "process": process,
    }
    await run(IDEMPOTENCY, colour, names)
    app = fastapi.FastAPI()
    app.include_router(router)
    install(app)

    @app.middleware("http")
    async def committing(request: fastapi.Request, call_next: Any) -> Any:
        """Commit once per request, before the answer goes out, as services with a session do."""
        response = await call_next(request)
        if db.commit is not None:
            await now(db.commit())
        return response

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Service(await closing.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://service")))


def charges(client: str, stores: Stores) -> int:
    """Return how many charges are committed, as somebody else sees it."""
    url = f"sqlite:///{stores.sqlite}" if "sqlite" in client.lower() else stores.postgres()
    with holdfast.connect(url) as db:
        return int(db.execute(COUNT)[0][0])


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@each_client
async def test_a_payment_is_charged_once_however_often_it_is_sent(
    client: str, stores: Stores, closing: AsyncExitStack
) -> None:
    """Another instance of the service replays the same answer; another key is another payment."""
    ledger = Ledger()
    first = await serve(client, stores, ledger, closing)
    second = await serve(client, stores, ledger, closing)
    answers = [await service.pay("order-1") for service in (first, first, second)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.json() for answer in answers] == [{"status": "charged", "run": 1}] * 3
    assert charges(client, stores) == ledger.runs == 1
    assert (await second.pay("order-2")).json() == {"status": "charged", "run": 2}
    assert charges(client, stores) == ledger.runs == 2


@each_client
async def test_a_payment_that_is_sent_twice_at_once_is_charged_once(
    client: str, stores: Stores, closing: AsyncExitStack
) -> None:
    """The second instance waits for the first one's answer and gives the same."""
    ledger = Ledger()
    services = [await serve(client, stores, ledger, closing) for _ in range(2)]
    ledger.pause = 0.05
    answers = await asyncio.gather(*(service.pay("order-1") for service in services))
    assert [answer.json() for answer in answers] == [{"status": "charged", "run": 1}] * 2
    assert charges(client, stores) == ledger.runs == 1


@each_client
async def test_a_payment_that_failed_leaves_nothing_and_may_be_sent_again(
    client: str, stores: Stores, closing: AsyncExitStack
) -> None:
    ledger = Ledger()
    service = await serve(client, stores, ledger, closing)
    ledger.failure = RuntimeError("provider is down")
    assert (await service.pay("order-1")).status_code == 500
    assert charges(client, stores) == 0
    ledger.failure = None
    assert (await service.pay("order-1")).json() == {"status": "charged", "run": 2}
    assert charges(client, stores) == 1


@each_client
async def test_a_payment_without_a_legal_key_is_refused(client: str, stores: Stores, closing: AsyncExitStack) -> None:
    """The framework refuses a missing header, holdfast an empty or over-long one, before anything was done."""
    ledger = Ledger()
    service = await serve(client, stores, ledger, closing)
    assert (await service.pay(None)).status_code == 422
    empty, long = await service.pay(""), await service.pay("x" * 256)
    assert (empty.status_code, empty.json()["title"]) == (400, "Idempotency-Key is missing")
    assert (long.status_code, long.json()["title"]) == (400, "Invalid key")
    assert charges(client, stores) == ledger.runs == 0
