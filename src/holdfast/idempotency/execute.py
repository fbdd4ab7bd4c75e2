"""`idempotent_execute`: run a function once per key, and give every repetition its answer."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypedDict, TypeVar, Unpack, overload

from holdfast import checks
from holdfast.backends import AsyncClient, Backend, SyncClient, adopt, carrier
from holdfast.drivers import AsyncDriver
from holdfast.errors import ConfigurationError, KeyMissing
from holdfast.idempotency._execution import Execution
from holdfast.idempotency._functions import in_colour, takes_transaction
from holdfast.idempotency.keys import fingerprint, identity
from holdfast.idempotency.store import Claim, Store
from holdfast.operations import Run, Steps

__all__ = ["idempotent_execute", "prune"]

T = TypeVar("T")
DEFAULT_TTL = 86_400.0
DEFAULT_LEASE = 10.0
DEFAULT_WAIT = 5.0
DEFAULT_MAX_RESULT_BYTES = 1_048_576
DEFAULT_PRUNE_LIMIT = 10_000
LONGEST = 10 * 365 * 86_400.0


class ExecuteOptions(TypedDict, total=False):
    """The keywords of `idempotent_execute` that do not depend on the result, for its overloads."""

    payload: object
    scope: str
    ttl: float
    lease: float | None
    wait: float
    max_result_bytes: int
    request_timeout: float | None


@overload
def idempotent_execute(
    db: AsyncClient,
    key: str | None,
    endpoint: str,
    process: Callable[[], Awaitable[T]] | Callable[[Any], Awaitable[T]],
    *,
    commit: Callable[[Any, T], object] | None = ...,
    **options: Unpack[ExecuteOptions],
) -> Coroutine[Any, Any, T]: ...
@overload
def idempotent_execute(
    db: SyncClient,
    key: str | None,
    endpoint: str,
    process: Callable[[], T] | Callable[[Any], T],
    *,
    commit: Callable[[Any, T], object] | None = ...,
    **options: Unpack[ExecuteOptions],
) -> T: ...
def idempotent_execute(
    db: Any,
    key: str | None,
    endpoint: str,
    process: Callable[..., Any],
    *,
    commit: Callable[[Any, Any], object] | None = None,
    payload: object = None,
    scope: str = "",
    ttl: float = DEFAULT_TTL,
    lease: float | None = None,
    wait: float = DEFAULT_WAIT,
    max_result_bytes: int = DEFAULT_MAX_RESULT_BYTES,
    request_timeout: float | None = None,
) -> Any:
    """Return what `process` returned for the first request with this `key`, running it only for that one.

        return await idempotent_execute(db, idempotency_key, "/payments", process)     # no await when db blocks

    **On a SQL `db`, in one transaction**: the claim of the key, what `process(tx)` writes through `tx`, and the answer
    commit together or not at all. When `db` is a connection or session of yours whose transaction is open, that is
    joined with a savepoint and yours to commit. Use it when `process` only writes to that database.

    **With `commit` or `lease`, or on Redis and memory, under a lease**: the key is claimed, `process()` runs outside
    of any transaction, and then the answer is stored, on SQL in one transaction with what `commit(tx, result)`
    writes. Use it when `process` calls another service. After a crash the next request takes over when the lease
    is over and runs `process` again, so pass that service a key of its own: `idempotency_key("charge", key)`.

    An exception of `process` or `commit` is not stored; it removes the claim, and the next request executes.

    Args:
        db: a client or backend; its colour decides whether the answer is returned or awaited.
        key: the client's idempotency key, 1 to 255 printable characters.
        endpoint: the operation, 1 to 255 characters; a key counts for one endpoint only.
        process: takes no argument or, in one transaction, the joined backend. Returns what JSON can hold, or bytes.
        commit: is given the joined backend and the result; its writes and the answer are stored together. On an
            asyncio client, what is given the joined backend must be an `async def`.
        payload: what was asked for. Another payload under the same key is refused. It is compared only
            when both requests give one; None compares nothing.
        scope: the tenant or principal, up to 255 characters; a key counts within its scope only. Leave it empty only
            if all callers may see each other's answers.
        ttl: seconds that the answer is kept, from 0.001 to ten years (24 hours).
        lease: seconds after which a request that died is taken over, from 0.001 to ten years; extended while `process`
            runs (10 s; on SQL, None without `commit` means one transaction).
        wait: seconds to wait for the first request's answer, >= 0; 0 refuses at once.
        max_result_bytes: most bytes of the stored answer, >= 1.
        request_timeout: seconds that one request to the store may take, > 0; None keeps the backend's.

    Raises:
        KeyMissing: `key` is None or empty.
        KeyInProgress: the first request still runs after `wait`; `retry_after` says when to ask again.
        KeyReused: the key was used before with another payload.
        StaleToken: this request was taken over by its retry, whose answer counts; `commit` was undone.
        ConfigurationError: an argument is not legal, or the result cannot be stored (nothing was).
        BackendUnavailable: nothing was stored.
        OutcomeUnknown: perhaps everything was stored; asking again with the same key tells.
    """
    backend: Any = adopt(db, timeout=checks.optional_timeout("request_timeout", request_timeout))
    store: Store = carrier(__package__, backend)
    leased = lease is not None or commit is not None or not store.transactional
    if leased:
        _check_leased(backend, store, commit)
    joins = takes_transaction(process)
    if leased and joins:
        message = "process must take no argument under a lease, where there is no transaction to pass; write in commit"
        raise ConfigurationError(message)
    is_async = isinstance(backend, AsyncDriver)
    process = in_colour("process", process, is_async=is_async, writes=joins)
    if commit is not None:
        commit = in_colour("commit", commit, is_async=is_async, writes=True)
    scope, endpoint, key = _scope(scope), checks.key("endpoint", endpoint), _key(key)
    claim = Claim(
        identity=identity(scope, endpoint, key),
        scope=scope,
        endpoint=endpoint,
        key=key,
        owner=f"{backend.random.getrandbits(128):032x}",
        fingerprint="" if payload is None else fingerprint(payload),
        lease=_seconds("lease", DEFAULT_LEASE if lease is None else lease) if leased else 0.0,
        ttl=_seconds("ttl", ttl),
    )
    execution: Execution[Any] = Execution(
        driver=backend,
        store=store,
        claim=claim,
        process=Run(process, join=joins),
        commit=commit,
        wait=checks.between("wait", wait, 0, threading.TIMEOUT_MAX),
        max_result_bytes=checks.at_least("max_result_bytes", max_result_bytes, 1),
    )
    return backend.run(execution.under_lease() if leased else execution.in_one_transaction())


@overload
def prune(db: AsyncClient, *, limit: int = ...) -> Coroutine[Any, Any, int]: ...
@overload
def prune(db: SyncClient, *, limit: int = ...) -> int: ...
def prune(db: Any, *, limit: int = DEFAULT_PRUNE_LIMIT) -> Any:
    """Remove up to `limit` expired answers, and return how many; await it when `db` is an asyncio client.

    Executions do this by themselves now and then, so it is only needed to give space back early, or where they all are
    part of serializable transactions of yours, which remove nothing. Redis and memory forget by themselves: 0.
    """
    backend: Any = adopt(db)
    return backend.run(_pruning(carrier(__package__, backend), checks.at_least("limit", limit, 1)))


def _pruning(store: Store, limit: int) -> Steps[int]:
    request = store.prune(limit)
    if request is None:
        return 0
    return int((yield from request))


def _key(key: str | None) -> str:
    if key is None or key == "":
        raise KeyMissing("key is missing: this operation requires an idempotency key")
    return checks.key("key", key)


def _scope(scope: str) -> str:
    return "" if scope == "" else checks.key("scope", scope)


def _seconds(parameter: str, value: float) -> float:
    # Beyond this, stores count in numbers that they no longer tell apart, or refuse in the middle of a request.
    return checks.between(parameter, checks.positive(parameter, value), 0.001, LONGEST)


def _check_leased(backend: Backend[Any], store: Store, commit: object) -> None:
    if commit is not None and not store.transactional:
        message = f"commit needs a database with transactions, which {backend!r} is not: give SQLite or PostgreSQL"
        raise ConfigurationError(message)
    if backend.one_connection:
        message = (
            "commit and lease need several transactions, and a heartbeat beside them, but db is one connection or "
            "session: give holdfast.connect(URL) or a pool"
        )
        raise ConfigurationError(message)
