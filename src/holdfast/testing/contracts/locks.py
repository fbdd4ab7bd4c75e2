"""What every backend must do for locks."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.backends import AsyncBackend, Backend
from holdfast.errors import ConfigurationError, LockLost, LockNotAcquired, StaleToken
from holdfast.locks import Fence, Lease, Lock
from holdfast.testing.contracts._either import settle, together

__all__ = ["LockContract"]

# Long enough that no lease ends by itself while a busy machine runs a test, short enough to wait for.
LONG = 30.0
SHORT = 0.2


class LockContract:
    """At most one live lease per name, with tokens that only grow."""

    async def test_a_free_lock_is_granted_at_once(self, backend: Backend[Any]) -> None:
        """A lease of a free lock is held and has time left, but never more than its TTL."""
        lease = await settle(Lock(backend, "free", ttl=LONG).acquire(timeout=0))
        assert lease.held
        assert 0 < lease.remaining <= LONG

    async def test_a_held_lock_is_refused(self, backend: Backend[Any]) -> None:
        """While one lease lives, nobody else gets the lock."""
        await settle(Lock(backend, "held", ttl=LONG).acquire(timeout=0))
        assert await settle(Lock(backend, "held", ttl=LONG).acquire(timeout=0)) is None

    async def test_names_do_not_touch_each_other(self, backend: Backend[Any]) -> None:
        """Every legal name is a lock of its own, however hostile."""
        hostile = [
            "a",
            "A",
            "a:b",
            "{a}",
            "}{",
            "a%3Ab",
            "*",
            "'; drop table x; --",
            "é",
            "e\u0301",
            " ",
            "x" * 255,
        ]
        leases = [await settle(Lock(backend, name, ttl=LONG).acquire(timeout=0)) for name in hostile]
        assert all(lease is not None for lease in leases)

    async def test_release_frees_the_lock(self, backend: Backend[Any]) -> None:
        """After a release the next caller is served, and the old lease has no time left."""
        lease = await settle(Lock(backend, "freed", ttl=LONG).acquire(timeout=0))
        assert await settle(lease.release())
        assert not lease.held
        assert await settle(Lock(backend, "freed", ttl=LONG).acquire(timeout=0)) is not None

    async def test_only_the_owner_releases(self, backend: Backend[Any]) -> None:
        """A lease that is over cannot release its successor's."""
        first = await self._outlived_lease(backend, "owned")
        second = await settle(Lock(backend, "owned", ttl=LONG).acquire(timeout=1))
        assert second is not None
        assert not await settle(first.release())
        assert await settle(second.extend())

    async def test_a_lease_ends_by_itself(self, backend: Backend[Any]) -> None:
        """A holder that died is waited for no longer than its TTL."""
        await settle(Lock(backend, "ends", ttl=SHORT).acquire(timeout=0))
        assert await settle(Lock(backend, "ends", ttl=LONG).acquire(timeout=SHORT + 2)) is not None

    async def test_extend_gives_more_time(self, backend: Backend[Any]) -> None:
        """An extended lease outlives its first TTL."""
        lease = await settle(Lock(backend, "more", ttl=SHORT).acquire(timeout=0))
        assert await settle(lease.extend(ttl=LONG))
        await asyncio.sleep(SHORT * 1.5)
        assert lease.held
        assert await settle(Lock(backend, "more", ttl=LONG).acquire(timeout=0)) is None

    async def test_a_lost_lease_cannot_be_extended(self, backend: Backend[Any]) -> None:
        """Extending after the end is refused, and the lease knows that it is lost."""
        lease = await self._outlived_lease(backend, "lost")
        assert not await settle(lease.extend())
        assert not lease.held

    async def test_tokens_only_grow(self, backend: Backend[Any]) -> None:
        """Each lease has a greater token than all before it: after a release, and after an end by TTL."""
        tokens = []
        for ttl in (LONG, SHORT, LONG):
            lease = await settle(Lock(backend, "tokens", ttl=ttl).acquire(timeout=SHORT + 2))
            tokens.append(lease.token)
            if ttl == LONG:
                await settle(lease.release())
        assert tokens == sorted(set(tokens))
        assert tokens[0] > 0

    async def test_one_of_many_wins(self, backend: Backend[Any]) -> None:
        """When many ask at once, exactly one is granted."""
        locks = [Lock(backend, "crowd", ttl=LONG) for _ in range(16)]
        leases = await together(backend, len(locks), lambda number: locks[number].acquire(timeout=0))
        assert [type(lease) for lease in leases if lease is not None] == [Lease]

    async def test_waiters_take_turns(self, backend: Backend[Any]) -> None:
        """Everybody gets the lock in the end, and no two hold it together."""
        inside = 0
        most = 0

        async def turn_async() -> None:
            nonlocal inside, most
            async with Lock(backend, "turns", ttl=LONG, timeout=20):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.002)
                inside -= 1

        def turn() -> None:
            nonlocal inside, most
            with Lock(backend, "turns", ttl=LONG, timeout=20):
                inside += 1
                most = max(most, inside)
                inside -= 1

        chosen = turn_async if isinstance(backend, AsyncBackend) else turn
        results = await together(backend, 8, lambda _: chosen())
        assert results == [None] * 8
        assert most == 1

    async def test_anybody_can_see_who_holds_it(self, backend: Backend[Any]) -> None:
        """Label, token, age and rest of the lease; never the secret of its owner. Nothing changes by looking."""
        lock = Lock(backend, "seen", ttl=LONG, label="billing 7")
        assert await settle(lock.peek()) is None
        lease = await settle(lock.acquire(timeout=0))
        held = await settle(Lock(backend, "seen").peek())
        assert (held.label, held.token) == ("billing 7", lease.token)
        assert 0 <= held.age < LONG
        assert 0 < held.remaining <= LONG
        assert held.remaining + held.age <= LONG + 1
        assert await settle(lease.release())
        assert await settle(lock.peek()) is None

    async def test_an_operator_can_end_a_lease(self, backend: Backend[Any]) -> None:
        """The lock is free at once, with a greater token; its old holder is told that it lost it."""
        lock = Lock(backend, "ended", ttl=LONG)
        assert await settle(lock.force_release(reason="nobody holds it")) is None
        lease = await settle(lock.acquire(timeout=0))
        held = await settle(Lock(backend, "ended").force_release(reason="its host is gone"))
        assert held.token == lease.token
        assert await settle(lock.peek()) is None
        successor = await settle(lock.acquire(timeout=0))
        assert successor.token > lease.token
        assert not await settle(lease.extend())
        assert not lease.held
        assert await settle(successor.extend())

    async def test_a_fence_refuses_stale_tokens(self, backend: Backend[Any]) -> None:
        """The greatest token counts, the same one may come again, and resources do not touch each other."""
        fence, other = Fence(backend, "account"), Fence(backend, "{account}")
        for token in (0, 3, 3, 2**53 - 1, 2**53):
            await settle(fence.check(token))
        for token in (3, 2**53 - 1):
            error = await _refusal(fence, token)
            assert (error.__dict__["token"], error.__dict__["newest"]) == (token, 2**53)
        await settle(other.check(1))

    async def test_holders_at_once_leave_the_greatest_token(self, backend: Backend[Any]) -> None:
        """In whatever order they come, the fence ends at the greatest."""
        fences = [Fence(backend, "crowded") for _ in range(16)]
        outcomes = await together(backend, 16, lambda number: fences[number].check(number + 1))
        assert all(outcome is None or isinstance(outcome, StaleToken) for outcome in outcomes), outcomes
        assert outcomes[15] is None
        assert (await _refusal(Fence(backend, "crowded"), 15)).__dict__["newest"] == 16

    async def test_a_busy_lock_raises_where_no_value_can_be_returned(self, backend: Backend[Any]) -> None:
        """`with` on a lock that stays taken raises `LockNotAcquired`, naming the lock."""
        await settle(Lock(backend, "busy", ttl=LONG).acquire(timeout=0))
        error = await _error_of_block(backend, Lock(backend, "busy", timeout=0.05))
        assert isinstance(error, LockNotAcquired)
        assert error.__dict__["key"] == "busy"

    async def test_a_heartbeat_keeps_the_lease(self, backend: Backend[Any]) -> None:
        """A block that runs for several TTLs keeps its lock."""
        lock = Lock(backend, "beating", ttl=0.6)
        if isinstance(backend, AsyncBackend):
            async with lock as lease:
                await asyncio.sleep(1.5)
                assert lease.held
        else:
            with lock as lease:
                await asyncio.sleep(1.5)
                assert lease.held

    async def test_a_block_that_lost_its_lock_says_so(self, backend: Backend[Any]) -> None:
        """A block that ran on after its lease was over ends in `LockLost`."""
        lock = Lock(backend, "overrun", ttl=SHORT, heartbeat=False)
        error = await _error_of_block(backend, lock, seconds=SHORT * 1.5)
        assert isinstance(error, LockLost)

    async def test_the_wrong_spelling_names_the_right_one(self, backend: Backend[Any]) -> None:
        """`with` on an asyncio lock, and `async with` on a blocking one, raise at once."""
        lock: Any = Lock(backend, "spelling")
        try:
            if isinstance(backend, AsyncBackend):
                with lock:
                    pass
            else:
                async with lock:
                    pass
        except ConfigurationError as error:
            assert "with" in str(error)  # noqa: PT017 - no pytest in a shipped module
        else:
            raise AssertionError("the wrong spelling was accepted")

    async def _outlived_lease(self, backend: Backend[Any], name: str) -> Any:
        lease = await settle(Lock(backend, name, ttl=SHORT).acquire(timeout=0))
        await asyncio.sleep(SHORT * 1.5)
        return lease


async def _error_of_block(backend: Backend[Any], lock: Any, seconds: float = 0) -> BaseException | None:
    try:
        if isinstance(backend, AsyncBackend):
            async with lock:
                await asyncio.sleep(seconds)
        else:
            with lock:
                await asyncio.sleep(seconds)
    except (LockLost, LockNotAcquired) as error:
        return error
    return None


async def _refusal(fence: Fence[Any], token: int) -> StaleToken:
    try:
        await settle(fence.check(token))
    except StaleToken as error:
        return error
    raise AssertionError(f"the stale token {token} was accepted")
