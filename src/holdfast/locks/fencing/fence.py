"""A fence in a store: the greatest token of a resource, in a table of holdfast's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

from holdfast import checks
from holdfast.backends import AsyncClient, SyncClient, adopt, carrier
from holdfast.errors import HoldfastError
from holdfast.locks.fencing._token import legal_token, stale
from holdfast.operations import Async, C, Pattern, Request, Steps, Sync, operation

__all__ = ["Fence", "FenceStore"]

# One look in so many also removes fences of long ago, where the store keeps rows.
PRUNE_ONE_IN = 1024


class FenceStore(Protocol):
    """What a carrier of fences provides, as functions that return requests."""

    def accept(self, resource: str, token: int) -> Request[int]:
        """Remember `token` if it is the greatest yet; return the greatest."""
        ...

    def prune(self) -> Request[Any] | None:
        """Remove what was last looked at more than 30 days ago; None where the backend does it by itself."""
        ...


class Fence(Pattern[C], Generic[C]):
    """Refuse stale fencing tokens for what is written in the same transaction.

        with backend.transaction() as tx:
            Fence(tx, "account-7").check(lease.token)
            tx.execute("update ...")

    Guarantees, in a SQL transaction: who checks a greater token waits for this transaction, or this one for
    that; so of two holders the one with the smaller token never writes last. Outside of a transaction, and on
    Redis, the check is a step of its own: a pause between it and the write is not covered (use `FencedValue`).
    A fence that nobody looked at for 30 days is forgotten.

    Args:
        client: a client or backend; give the transaction in which you write.
        resource: what is written, 1 to 255 printable characters.
    """

    @overload
    def __init__(self: Fence[Async], client: AsyncClient, resource: str) -> None: ...
    @overload
    def __init__(self: Fence[Sync], client: SyncClient, resource: str) -> None: ...
    def __init__(self, client: Any, resource: str) -> None:
        self.resource: str = checks.key("resource", resource)
        self._driver = backend = adopt(client)
        self._store: FenceStore = carrier(__package__, backend)

    @operation
    def check(self, token: int) -> Steps[None]:
        """Accept `token` if no greater one was accepted before; one round trip.

        Raises:
            StaleToken: a newer holder has been here; `token` and `newest` name both.
            ConfigurationError: `token` is no whole number from 0 to 2^53.
        """
        newest = yield from self._store.accept(self.resource, legal_token(token))
        if newest > token:
            raise stale(self.resource, token, newest)
        if (prune := self._store.prune()) is not None and self._driver.random.random() * PRUNE_ONE_IN < 1:
            with contextlib.suppress(HoldfastError):
                yield from prune

    def __repr__(self) -> str:
        return f"<Fence {self.resource!r} on {self._driver.place}>"

    if TYPE_CHECKING:
        _driver: Any
