"""Two callers a moment apart, over and over: never two executions, whatever the moment."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import backends
from holdfast.backends import AsyncBackend, migrations
from holdfast.idempotency import idempotent_execute

TRIALS = 300
LATEST = 0.003


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[AsyncBackend, AsyncBackend]]:
    """Two backends on one store, as two processes would have them."""
    if request.param == "memory":
        async with backends.connect_async("memory://") as one:
            yield one, one
        return
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")
    async with backends.connect_async(url) as one, backends.connect_async(url) as other:
        if request.param == "postgres":
            await migrations.migrate(one)
        yield one, other


@pytest.mark.parametrize("lease", [None, 30.0], ids=["in one transaction", "under a lease"])
@pytest.mark.parametrize("work", [0.0, 0.002], ids=["quick", "slow"])
async def test_two_callers_a_moment_apart_execute_once(
    pair: tuple[AsyncBackend, AsyncBackend], lease: float | None, work: float
) -> None:
    dice = random.Random(23)
    runs: list[str] = []

    async def call(db: Any, key: str, delay: float) -> str:
        async def process() -> str:
            runs.append(key)
            await asyncio.sleep(work)
            return key

        await asyncio.sleep(delay)
        return await idempotent_execute(db, key, "/pairs", process, lease=lease, wait=20.0)

    for trial in range(TRIALS // 4):
        key = f"pair-{trial}"
        calls = (call(db, key, dice.uniform(0.0, LATEST)) for db in pair)
        assert await asyncio.gather(*calls) == [key, key]
    assert len(runs) == len(set(runs)) == TRIALS // 4


async def test_cancelled_callers_leave_no_claim(pair: tuple[AsyncBackend, AsyncBackend]) -> None:
    """However many are cancelled at whatever moment, the next one with the key executes or gets the answer at once."""
    dice = random.Random(29)

    async def process() -> str:
        await asyncio.sleep(LATEST / 3)
        return "done"

    async def cancelled_soon(key: str) -> None:
        task = asyncio.ensure_future(idempotent_execute(pair[0], key, "/cancelled", process, lease=300.0))
        await asyncio.sleep(dice.uniform(0.0, LATEST))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    keys = [f"cancelled-{number}" for number in range(60)]
    await asyncio.gather(*(cancelled_soon(key) for key in keys))
    for key in keys:
        assert await idempotent_execute(pair[1], key, "/cancelled", process, lease=300.0, wait=0) == "done"
