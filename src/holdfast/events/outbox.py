"""`Outbox`: messages that leave only if the transaction they belong to commits.

    async with db.transaction() as tx:
        await EventStore(tx).append(...)
        await Outbox(tx).add("payments", {"order": "123"}, key="order-123")

Writing to a database and to a broker one after the other loses a message, or sends one about something
that never happened, whenever the process dies in between. Here the message is a row of the same
transaction; a `Relay` publishes it afterwards, at least once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, overload

from holdfast import checks
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.events.identity import uuid7
from holdfast.events.message import Backlog, Message, check_headers
from holdfast.events.store import OutboxStore, store_of
from holdfast.operations import Async, C, Pattern, Request, Steps, Sync, operation

__all__ = ["Outbox"]


class Outbox(Pattern[C], Generic[C]):
    """Where a transaction leaves the messages that a `Relay` publishes.

    Args:
        client: the open transaction (`tx`), or a client or backend of SQLite, PostgreSQL or memory.
        request_timeout: seconds that one request may take, > 0; None keeps the backend's.

    Raises:
        ConfigurationError: the client cannot carry an outbox.
    """

    @overload
    def __init__(self: Outbox[Async], client: AsyncClient, *, request_timeout: float | None = ...) -> None: ...
    @overload
    def __init__(self: Outbox[Sync], client: SyncClient, *, request_timeout: float | None = ...) -> None: ...
    def __init__(self, client: Any, *, request_timeout: float | None = None) -> None:
        self._driver = adopt(client, timeout=checks.optional_timeout("request_timeout", request_timeout))
        self._store: OutboxStore = store_of(self._driver, "outbox", "Outbox")

    @operation
    def add(
        self,
        topic: str,
        payload: Any,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> Steps[str]:
        """Leave a message, and return its id.

        Messages of one topic and key are published in the order of their `add`, if their transactions
        did not overlap. Where they can overlap, first do what makes one wait for the other (append to
        the stream, lock the row), then `add`.

        Args:
            topic: where it is published, 1 to 255 printable characters.
            payload: any JSON-able value, with str keys, at most 64 levels deep.
            key: keeps messages in order, 1 to 255 printable characters; "" asks for no order.
            headers: short texts beside the payload.
            message_id: what consumers recognise duplicates by within the topic, 1 to 255 printable
                characters; None makes a UUID. Give your own when the whole transaction may be repeated:
                one of the same topic and id that still waits stays the only one.

        Raises:
            ConfigurationError: an argument is not legal; nothing was sent.
            BackendUnavailable: nothing was stored.
            OutcomeUnknown: perhaps it was stored (only outside a transaction).
        """
        message = Message(
            id=self._new_id() if message_id is None else checks.key("message_id", message_id),
            topic=checks.key("topic", topic),
            payload=payload,
            key="" if key == "" else checks.key("key", key),
            headers=check_headers({} if headers is None else headers),
        )
        yield from self._store.add(message)
        return message.id

    @operation
    def backlog(self) -> Request[Backlog]:
        """Count what waits to be published. It counts rows: ask every few seconds, not every request."""
        return self._store.backlog()

    def _new_id(self) -> str:
        return uuid7(self._driver.clock.wall(), self._driver.random)

    def __repr__(self) -> str:
        return f"<Outbox on {self._driver.place}>"
