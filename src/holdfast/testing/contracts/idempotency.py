"""What every backend must do for idempotency."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable
from typing import Any

from holdfast.backends import AsyncBackend, Backend, carrier
from holdfast.errors import (
    BackendUnavailable,
    ConfigurationError,
    HoldfastError,
    KeyInProgress,
    KeyMissing,
    KeyReused,
)
from holdfast.idempotency import idempotent_execute, prune
from holdfast.idempotency.keys import identity
from holdfast.idempotency.store import Busy, Claim, Claimed, Stored
from holdfast.testing.contracts._either import settle, together

__all__ = ["IdempotencyContract", "TransactionalIdempotencyContract"]

# Long enough that no lease ends by itself while a busy machine runs a test, short enough to wait for.
LONG = 30.0
SHORT = 0.2


class Counted:
    """The function under a key: counts how often it ran."""

    def __init__(self, answer: Any = None, *, seconds: float = 0.0, error: BaseException | None = None) -> None:
        self.answer = answer
        self.seconds = seconds
        self.error = error
        self.runs: int = 0

    def of(self, backend: Backend[Any]) -> Callable[[], Any]:
        """Return the function in the colour of `backend`."""
        return self._run_async if isinstance(backend, AsyncBackend) else self._run

    async def _run_async(self) -> Any:
        self.runs += 1
        await asyncio.sleep(self.seconds)
        return self._end()

    def _run(self) -> Any:
        self.runs += 1
        if self.seconds:
            time.sleep(self.seconds)
        return self._end()

    def _end(self) -> Any:
        if self.error is not None:
            raise self.error
        return {"run": self.runs} if self.answer is None else self.answer


class LowestDice(random.Random):
    """With these, everything happens that happens now and then."""

    def random(self) -> float:
        """Return the lowest number there is."""
        return 0.0


async def _execute(backend: Backend[Any], key: str | None, counted: Counted, **options: Any) -> Any:
    endpoint = options.pop("endpoint", "/payments")
    return await settle(idempotent_execute(backend, key, endpoint, counted.of(backend), **options))


async def _error_of(backend: Backend[Any], key: str | None, counted: Counted, **options: Any) -> BaseException | None:
    try:
        await _execute(backend, key, counted, **options)
    except (HoldfastError, ValueError) as error:
        return error
    return None


async def _pruned(backend: Any) -> Any:
    return await settle(prune(backend))


class IdempotencyContract:
    """One execution per key, and the same answer for everybody."""

    async def test_a_repetition_gets_the_first_answer(self, backend: Backend[Any]) -> None:
        """The function runs once; later calls return what it returned."""
        counted = Counted()
        answers = [await _execute(backend, "once", counted) for _ in range(3)]
        assert answers == [{"run": 1}] * 3
        assert counted.runs == 1

    async def test_answers_come_back_as_they_went_in(self, backend: Backend[Any]) -> None:
        """A replay equals the first answer, byte for byte."""
        answers: list[Any] = [
            True,
            0,
            -1.5,
            10**30,
            "",
            "é e\u0301 \u2028 \x00 '; drop table x; -- \U0001f600",
            b"",
            bytes(range(256)),
            [],
            {},
            [1, [2, {"a": None}]],
            {"status": 201, "headers": [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]], "body": b"\xff\x00"},
            {"$bytes": "bm8="},
            {"$dict": {"$bytes": b"x"}},
        ]
        for number, answer in enumerate(answers):
            first = await _execute(backend, f"answer-{number}", Counted(answer))
            replay = await _execute(backend, f"answer-{number}", Counted("another"))
            assert (first, type(first)) == (answer, type(answer))
            assert (replay, type(replay)) == (answer, type(answer))

    async def test_none_is_an_answer(self, backend: Backend[Any]) -> None:
        """A function that returns None is not run again."""
        runs = 0

        def run() -> None:
            nonlocal runs
            runs += 1

        async def run_async() -> None:
            run()

        process = run_async if isinstance(backend, AsyncBackend) else run
        for _ in range(2):
            assert await settle(idempotent_execute(backend, "none", "/payments", process)) is None
        assert runs == 1

    async def test_one_of_many_executes(self, backend: Backend[Any]) -> None:
        """When many come at once, one executes and all get its answer."""
        counted = Counted(seconds=0.02)
        process = counted.of(backend)
        answers = await together(backend, 10, lambda _: idempotent_execute(backend, "many", "/payments", process))
        assert answers == [{"run": 1}] * 10
        assert counted.runs == 1

    async def test_pairs_never_execute_twice(self, backend: Backend[Any]) -> None:
        """Two that come within a moment of each other execute once, over and over."""
        for trial in range(30):
            counted = Counted(seconds=0.001)
            process = counted.of(backend)
            await together(
                backend,
                2,
                lambda _, key=f"pair-{trial}", process=process: idempotent_execute(backend, key, "/pairs", process),  # type: ignore[misc]
            )
            assert counted.runs == 1

    async def test_another_payload_is_refused(self, backend: Backend[Any]) -> None:
        """A key stands for one payload; what does not change the meaning of a payload does not count."""
        counted = Counted()
        await _execute(backend, "paid", counted, payload={"amount": 10, "to": "a"})
        error = await _error_of(backend, "paid", counted, payload={"amount": 11, "to": "a"})
        assert isinstance(error, KeyReused)
        assert await _execute(backend, "paid", counted, payload={"to": "a", "amount": 10.0}) == {"run": 1}
        assert counted.runs == 1

    async def test_another_payload_is_refused_while_the_first_runs(self, backend: Backend[Any]) -> None:
        """Nobody waits for an answer that is not theirs."""
        await self._crashed(backend, "running", lease=LONG, fingerprint="one")
        error = await _error_of(backend, "running", Counted(), payload="another", lease=LONG, wait=LONG)
        assert isinstance(error, KeyReused)

    async def test_no_payload_compares_nothing(self, backend: Backend[Any]) -> None:
        """A service may begin or cease to give payloads while keys are in use."""
        for first, second in ((None, {"amount": 10}), ({"amount": 10}, None)):
            key, counted = f"payload-{first}", Counted()
            await _execute(backend, key, counted, payload=first)
            assert await _execute(backend, key, counted, payload=second) == {"run": 1}

    async def test_a_failure_is_not_an_answer(self, backend: Backend[Any]) -> None:
        """When the function raises, its exception comes through and the next call executes."""
        failing = Counted(error=ValueError("card declined"))
        assert await _error_of(backend, "fails", failing) is failing.error
        assert await _execute(backend, "fails", Counted(), payload="even another") == {"run": 1}

    async def test_what_cannot_be_stored_is_refused(self, backend: Backend[Any]) -> None:
        """An answer that would not come back as it is, or is too large, is an error and no answer."""
        for answer in [(1, 2), {1: "one"}, object(), float("nan"), [{"a": {1, 2}}], 10**5000, "\ud83d\ude00"]:
            assert isinstance(await _error_of(backend, "odd", Counted(answer)), ConfigurationError)
        large = await _error_of(backend, "odd", Counted("x" * 100), max_result_bytes=101)
        assert isinstance(large, ConfigurationError)
        assert await _execute(backend, "odd", Counted("x" * 99), max_result_bytes=101) == "x" * 99

    async def test_an_expired_answer_is_gone(self, backend: Backend[Any]) -> None:
        """After `ttl` the key is free again, also for another payload."""
        counted = Counted()
        await _execute(backend, "expires", counted, ttl=SHORT, payload=1)
        await asyncio.sleep(SHORT * 1.5)
        assert await _execute(backend, "expires", counted, payload=2) == {"run": 2}
        assert await _execute(backend, "expires", counted, payload=2) == {"run": 2}

    async def test_keys_belong_to_their_endpoint_and_scope(self, backend: Backend[Any]) -> None:
        """The same key in another place, or of another tenant, is another key."""
        places = [("/a", ""), ("/b", ""), ("/a", "tenant"), ("/a", "ten:ant"), ("/a:ten", "ant")]
        for number, (endpoint, scope) in enumerate(places):
            await _execute(backend, "shared", Counted(number), endpoint=endpoint, scope=scope)
        for number, (endpoint, scope) in enumerate(places):
            assert await _execute(backend, "shared", Counted(), endpoint=endpoint, scope=scope) == number

    async def test_hostile_keys_are_just_keys(self, backend: Backend[Any]) -> None:
        """Every legal key is a key of its own."""
        hostile = ["a", "A", "a:b", "{a}", "}{", "a%3Ab", "*", "'; drop table x; --", "é", "e\u0301", " ", "x" * 255]
        hostile.append("\U0001f600" * 255)
        for key in hostile:
            assert await _execute(backend, key, Counted(key)) == key
        for key in hostile:
            assert await _execute(backend, key, Counted()) == key

    async def test_a_missing_or_illegal_key_is_refused(self, backend: Backend[Any]) -> None:
        """Without a key nothing runs."""
        counted = Counted()
        for key in (None, ""):
            assert isinstance(await _error_of(backend, key, counted), KeyMissing)
        for key in ("x" * 256, "a\nb", "\x00", "\ud800"):
            assert isinstance(await _error_of(backend, key, counted), ConfigurationError)
        assert counted.runs == 0

    async def test_a_running_request_is_waited_for_no_longer_than_asked(self, backend: Backend[Any]) -> None:
        """While the first one runs, others are told when to ask again."""
        await self._crashed(backend, "busy", lease=LONG)
        for wait in (0, 0.05):
            error = await _error_of(backend, "busy", Counted(), lease=LONG, wait=wait)
            assert isinstance(error, KeyInProgress)
            assert error.retry_after is not None
            assert 0 < error.retry_after <= LONG

    async def test_a_long_execution_keeps_its_claim(self, backend: Backend[Any]) -> None:
        """A function that runs for several leases is not taken over."""
        counted = Counted(seconds=1.5)
        process = counted.of(backend)

        def call(_: int) -> Any:
            return idempotent_execute(backend, "long", "/payments", process, lease=0.6, wait=LONG)

        answers = await together(backend, 2, call)
        assert answers == [{"run": 1}] * 2

    async def test_a_crashed_request_is_taken_over(self, backend: Backend[Any]) -> None:
        """When the lease of a request that died is over, the next one executes."""
        await self._crashed(backend, "crashed", lease=SHORT)
        assert await _execute(backend, "crashed", Counted(), lease=LONG) == {"run": 1}

    async def test_a_late_first_request_is_refused(self, backend: Backend[Any]) -> None:
        """Whoever was taken over can neither store, nor extend, nor remove what its successor has."""
        store = carrier("holdfast.idempotency", backend)
        late = await self._crashed(backend, "late", lease=SHORT)
        await asyncio.sleep(SHORT * 1.5)
        successor = _claim("late", owner="successor", lease=LONG)
        assert await settle(backend.run(store.claim(successor))) == Claimed(2)  # type: ignore[attr-defined]
        for request in (store.extend(late), store.complete(late, '"late"'), store.release(late)):
            assert not await settle(request.carry(backend))
        assert await settle(store.complete(successor, '"right"').carry(backend))
        for request in (store.complete(late, '"late"'), store.release(late)):
            assert not await settle(request.carry(backend))
        assert await _execute(backend, "late", Counted(), endpoint="/payments") == "right"

    async def test_a_crashed_request_keeps_its_payload(self, backend: Backend[Any]) -> None:
        """What a request that died had asked for may have happened: another payload does not take over.

        A request without one does, and does not make the payload forgotten.
        """
        store = carrier("holdfast.idempotency", backend)

        async def asked_later(fingerprint: str) -> Any:
            await asyncio.sleep(SHORT * 1.5)
            later = _claim("half", owner="later", lease=SHORT, fingerprint=fingerprint)
            return await settle(backend.run(store.claim(later)))  # type: ignore[attr-defined]

        await self._crashed(backend, "half", lease=SHORT, fingerprint="one")
        assert isinstance(await asked_later("other"), Busy)
        assert await asked_later("") == Claimed(2)
        refused = await asked_later("other")
        assert isinstance(refused, Busy)
        assert refused.fingerprint == "one"

    async def test_a_claim_whose_answer_was_stored_is_over(self, backend: Backend[Any]) -> None:
        """A stored answer is found by looking, and by claiming; its owner cannot store another."""
        store = carrier("holdfast.idempotency", backend)
        mine = await self._crashed(backend, "stored", lease=LONG)
        assert await settle(store.look(mine).carry(backend)) is None
        assert await settle(store.complete(mine, "1").carry(backend))
        assert not await settle(store.complete(mine, "2").carry(backend))
        other = _claim("stored", owner="other", lease=LONG)
        assert await settle(store.look(other).carry(backend)) == Stored("", "1")
        assert await settle(backend.run(store.claim(other))) == Stored("", "1")  # type: ignore[attr-defined]

    async def test_expired_answers_can_be_pruned(self, backend: Backend[Any]) -> None:
        """Pruning removes nothing that counts."""
        await _execute(backend, "stays", Counted("stays"))
        await _execute(backend, "goes", Counted("goes"), ttl=SHORT)
        await self._crashed(backend, "claimed", lease=LONG, ttl=SHORT)
        await asyncio.sleep(SHORT * 1.5)
        assert await _pruned(backend) in (0, 1)
        assert await _pruned(backend) == 0
        assert await _execute(backend, "stays", Counted()) == "stays"
        assert isinstance(await _error_of(backend, "claimed", Counted(), lease=LONG, wait=0), KeyInProgress)

    async def test_the_wrong_colour_is_named(self, backend: Backend[Any]) -> None:
        """A coroutine function on a blocking client is refused before anything is claimed."""

        async def process() -> int:
            return 1

        if not isinstance(backend, AsyncBackend):
            try:
                refused: Any = idempotent_execute(backend, "colour", "/payments", process)
            except ConfigurationError as error:
                assert "async def" in str(error)  # noqa: PT017 - no pytest in a shipped module
            else:
                raise AssertionError(f"the wrong colour was accepted: {refused}")

    async def _crashed(self, backend: Backend[Any], key: str, *, lease: float, **options: Any) -> Claim:
        """Claim `key` as a request that then dies."""
        claim = _claim(key, owner="crashed", lease=lease, **options)
        store = carrier("holdfast.idempotency", backend)
        assert await settle(backend.run(store.claim(claim))) == Claimed(1)  # type: ignore[attr-defined]
        return claim


class TransactionalIdempotencyContract:
    """Effect and answer commit together: for backends whose `transaction()` holds the user's own SQL."""

    async def test_effect_and_answer_commit_together(self, backend: Any) -> None:
        """What the function writes through its argument is there once, with the answer."""
        await self._table(backend)
        for _ in range(2):
            assert await self._insert(backend, "together", "a") == "a"
        assert await self._effects(backend) == ["a"]

    async def test_a_failure_leaves_no_effect(self, backend: Any) -> None:
        """When the function raises after it has written, neither its effect nor the key is left."""
        await self._table(backend)
        assert isinstance(await self._insert(backend, "fails", "a", error=ValueError("late")), ValueError)
        assert await self._effects(backend) == []
        assert await self._insert(backend, "fails", "b") == "b"
        assert await self._effects(backend) == ["b"]

    async def test_an_answer_that_cannot_be_stored_leaves_no_effect(self, backend: Any) -> None:
        """The effect is undone with the answer that was refused."""
        await self._table(backend)
        assert isinstance(await self._insert(backend, "odd", ("a",)), ConfigurationError)
        assert await self._effects(backend) == []

    async def test_a_function_may_take_longer_than_its_answer_is_kept(self, backend: Any) -> None:
        """The answer is kept for `ttl` from when it is there; how long it took to find does not count."""
        assert await _execute(backend, "slow", Counted("done", seconds=0.05), ttl=0.01) == "done"

    async def test_many_leave_one_effect(self, backend: Any) -> None:
        """When many come at once, there is one effect."""
        await self._table(backend)
        answers = await together(backend, 8, lambda _: self._inserting(backend, "many", "a"))
        assert answers == ["a"] * 8
        assert await self._effects(backend) == ["a"]

    async def test_commit_and_answer_are_stored_together(self, backend: Any) -> None:
        """What the hook writes is there once, with the answer of the call outside."""
        await self._table(backend)
        counted = Counted("charged")
        for _ in range(2):
            assert await _execute(backend, "hook", counted, commit=self._record(backend)) == "charged"
        assert (counted.runs, await self._effects(backend)) == (1, ["charged"])

    async def test_a_failing_commit_stores_nothing(self, backend: Any) -> None:
        """When the hook raises after it has written, neither its effect nor the answer is left."""
        await self._table(backend)
        failing = self._record(backend, error=ValueError("late"))
        assert isinstance(await _error_of(backend, "hook", Counted("a"), commit=failing), ValueError)
        assert await self._effects(backend) == []
        assert await _execute(backend, "hook", Counted("b"), commit=self._record(backend)) == "b"
        assert await self._effects(backend) == ["b"]

    async def test_a_hook_of_the_wrong_colour_stores_nothing(self, backend: Any) -> None:
        """What only shows in its result is undone: an awaitable that nobody awaits, or writes that nobody awaited."""
        await self._table(backend)
        record = self._record(backend)

        async def nobody_awaits(tx: Any, result: Any) -> None:
            raise AssertionError(f"ran in {tx} with {result}")

        def hook(tx: Any, result: Any) -> Any:
            if isinstance(backend, AsyncBackend):
                record(tx, result).close()
                return None
            record(tx, result)
            return nobody_awaits(tx, result)

        error = await _error_of(backend, "hook", Counted("a"), commit=functools.partial(hook))
        assert isinstance(error, ConfigurationError)
        assert "commit behaves like" in str(error)
        assert await self._effects(backend) == []
        assert await _execute(backend, "hook", Counted("b"), commit=record) == "b"

    async def test_an_open_transaction_is_joined(self, backend: Any) -> None:
        """Within an outer transaction, key and effect are its own: undone with it, and committed with it."""
        await self._table(backend)
        for error in (BackendUnavailable("undo", backend="", operation=""), None):
            await self._within_transaction(backend, error)
        assert await self._effects(backend) == ["a"]
        assert await self._insert(backend, "joined", "b") == "a"

    async def test_an_open_transaction_removes_expired_answers(self, backend: Any) -> None:
        """Where executions are always part of a transaction, nobody else would; and it commits what it has written."""
        await self._table(backend)
        await _execute(backend, "goes", Counted("goes"), ttl=SHORT)
        await asyncio.sleep(SHORT * 1.5)
        backend.random = LowestDice()
        await self._within_transaction(backend, None)
        assert await _pruned(backend) == 0
        assert await self._effects(backend) == ["a"]

    async def test_an_open_transaction_cannot_hold_a_lease(self, backend: Any) -> None:
        """A claim that nobody else can see would be none."""
        if isinstance(backend, AsyncBackend):
            async with backend.transaction() as tx:
                error = await _error_of(tx, "lease", Counted(), lease=LONG)
        else:
            with backend.transaction() as tx:
                error = await _error_of(tx, "lease", Counted(), lease=LONG)
        assert isinstance(error, ConfigurationError)

    async def _table(self, backend: Any) -> None:
        await settle(backend.execute("create table effect (name text)"))

    async def _effects(self, backend: Any) -> list[str]:
        return [row[0] for row in await settle(backend.execute("select name from effect order by name"))]

    async def _insert(self, backend: Any, key: str, name: Any, error: Exception | None = None) -> Any:
        try:
            return await settle(self._inserting(backend, key, name, error))
        except (HoldfastError, ValueError) as raised:
            return raised

    def _inserting(self, backend: Any, key: str, name: Any, error: Exception | None = None) -> Any:
        record = self._record(backend, error=error)

        async def process_async(tx: Any) -> Any:
            await record(tx, name if isinstance(name, str) else "odd")
            return name

        def process(tx: Any) -> Any:
            record(tx, name if isinstance(name, str) else "odd")
            return name

        chosen = process_async if isinstance(backend, AsyncBackend) else process
        return idempotent_execute(backend, key, "/effects", chosen)

    def _record(self, backend: Any, error: Exception | None = None) -> Callable[[Any, Any], Any]:
        sql = "insert into effect (name) values (:name)"

        async def record_async(tx: Any, name: str) -> None:
            await tx.execute(sql, {"name": name})
            if error is not None:
                raise error

        def record(tx: Any, name: str) -> None:
            tx.execute(sql, {"name": name})
            if error is not None:
                raise error

        return record_async if isinstance(backend, AsyncBackend) else record

    async def _within_transaction(self, backend: Any, error: HoldfastError | None) -> None:
        try:
            if isinstance(backend, AsyncBackend):
                async with backend.transaction() as tx:
                    await self._inserting(tx, "joined", "a")
                    if error is not None:
                        raise error
            else:
                with backend.transaction() as tx:
                    self._inserting(tx, "joined", "a")
                    if error is not None:
                        raise error
        except HoldfastError as raised:
            assert raised is error  # noqa: PT017 - no pytest in a shipped module


def _claim(key: str, *, owner: str, lease: float, ttl: float = LONG, fingerprint: str = "") -> Claim:
    return Claim(
        identity=identity("", "/payments", key),
        scope="",
        endpoint="/payments",
        key=key,
        owner=owner,
        fingerprint=fingerprint,
        lease=lease,
        ttl=ttl,
    )
