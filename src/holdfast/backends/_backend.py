"""What a backend is: a driver with a place, a deadline, and a name for how it carries out requests.

`carrier(__package__, backend)` finds the module of a pattern that renders the pattern's requests for
a backend: `holdfast.locks` on a Redis backend is carried by `holdfast.locks.redis`. A backend from
another distribution brings its own carriers in the `carriers` attribute, so it needs no place here.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self

from holdfast import checks
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.drivers import AsyncDriver, SyncDriver
from holdfast.errors import ConfigurationError
from holdfast.operations import Async, C, Sync

__all__ = ["DEFAULT_TIMEOUT", "AsyncBackend", "Backend", "SyncBackend", "carrier"]

DEFAULT_TIMEOUT = 5.0


class Backend(Generic[C]):
    """Where requests are carried out; get one from `holdfast.connect()` or by passing your own client.

    Args:
        place: what to call this backend in messages, without any password.
        timeout: seconds that one request may take, > 0 and at most 24 days, before it is given up with
            `BackendUnavailable` (certainly not applied) or `OutcomeUnknown` (perhaps applied).
        clock: measures waits and deadlines on this side.
        random: the dice for jitter.

    Attributes:
        store: stands for the store itself: the same object for all backends that share connections.
    """

    dialect: ClassVar[str]
    """Names the module of each pattern that carries out its requests here: "redis", "postgres"..."""

    one_connection: bool = False
    """It is one connection or session of the user's, or an open transaction: nothing else can be asked on it while
    the user's own code uses it, and what is asked there becomes part of the user's transaction."""

    label: str | None = None
    """What others are told about who asks; None means host and process id."""

    carriers: Mapping[str, Any] = MappingProxyType({})
    """For backends of other distributions: pattern package name -> carrier, asked before `dialect`."""

    def __init__(
        self,
        place: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        self.place = place
        self.timeout: float = checks.timeout("timeout", timeout)
        self.clock = clock
        self.store: object = object()
        if random is not None:
            self.random = random

    def within(self, timeout: float | None) -> Self:
        """Return this backend with another deadline; both share their connections. None changes nothing."""
        if timeout is None or timeout == self.timeout:
            return self
        timeout = checks.timeout("timeout", timeout)
        # A shallow copy by hand: `copy.copy` takes seven times as long, and renewals of leases need one each time.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, timeout=timeout)
        return twin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}>"


class SyncBackend(Backend[Sync], SyncDriver):
    """A backend for blocking code; a context manager that closes what holdfast itself opened."""

    def close(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""

    def transaction(self) -> AbstractContextManager[SyncBackend]:
        """Open a transaction, as a backend: what patterns do through it commits together or not at all.

        Raises:
            ConfigurationError: this backend has no transactions.
        """
        raise _without_transactions(self)

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Sequence[Any]]:
        """Carry out SQL of your own, with `:name` parameters, and return its rows."""
        del sql, parameters
        raise _without_transactions(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncBackend(Backend[Async], AsyncDriver):
    """A backend for asyncio code; an async context manager that closes what holdfast itself opened."""

    async def aclose(self) -> None:
        """Close the connections that holdfast opened; a client of the user's stays open."""

    def transaction(self) -> AbstractAsyncContextManager[AsyncBackend]:
        """Open a transaction, as a backend: what patterns do through it commits together or not at all.

        Raises:
            ConfigurationError: this backend has no transactions.
        """
        raise _without_transactions(self)

    async def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Sequence[Any]]:
        """Carry out SQL of your own, with `:name` parameters, and return its rows."""
        del sql, parameters
        raise _without_transactions(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


def _without_transactions(backend: Backend[Any]) -> ConfigurationError:
    return ConfigurationError(f"{backend!r} has no transactions and no SQL; SQLite and PostgreSQL have")


def carrier(package: str, backend: Backend[Any]) -> Any:
    """Return what carries out the requests of the pattern `package` on `backend`."""
    pattern = package.rpartition(".")[2]
    if (own := backend.carriers.get(pattern)) is not None:
        return own
    name = f"{package}.{backend.dialect}"
    if importlib.util.find_spec(name) is None:
        message = f"{package} does not run on {backend.dialect}; it runs on: {', '.join(_dialects(package))}"
        raise ConfigurationError(message)
    return importlib.import_module(name)


def _dialects(package: str) -> list[str]:
    folder = Path(str(importlib.import_module(package).__file__)).parent
    known = ("memory", "postgres", "redis", "sqlite")
    return [dialect for dialect in known if (folder / f"{dialect}.py").exists()]
