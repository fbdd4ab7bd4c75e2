"""One fixture, `backend`: every backend in both colours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import backends
from holdfast.backends import Backend, migrations

BACKENDS = ["memory", "sqlite", "redis", "postgres"]


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty backend."""
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/holdfast.db"
    address: str = request.getfixturevalue(f"{request.param}_url")
    if request.param == "postgres":
        # SQLite makes its tables itself; here it is the operator's job.
        with backends.connect(address) as backend:
            migrations.migrate(backend)
    return address


@pytest.fixture(params=["sync", "async"])
async def backend(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Backend[Any]]:
    """An empty backend that is closed after the test."""
    if request.param == "sync":
        with backends.connect(url) as blocking:
            yield blocking
    else:
        async with backends.connect_async(url) as awaited:
            yield awaited
