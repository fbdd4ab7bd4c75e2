"""`DeadLetters`: the messages that were given up, and how relay and consumers give one up.

A message that can never be published or handled would hold up its key for ever. It is moved aside with
its last error, and stays until somebody decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.events._ranges import whole
from holdfast.events.message import DeadLetter, Message
from holdfast.events.store import OutboxStore, store_of
from holdfast.operations import Async, C, Pattern, Request, Sync, operation

__all__ = ["DeadLetters", "MessageBuried", "described", "tell_buried"]

LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageBuried(signals.Signal):
    """A message was given up and moved to the dead letters; `source` as in `DeadLetter`."""

    source: str
    message_id: str
    topic: str
    attempts: int
    error: str


class DeadLetters(Pattern[C], Generic[C]):
    """The messages that were given up, by the relay or by a consumer; they stay until somebody decides.

    Args:
        client: the client or backend of the outbox, or of the consumer.
    """

    @overload
    def __init__(self: DeadLetters[Async], client: AsyncClient) -> None: ...
    @overload
    def __init__(self: DeadLetters[Sync], client: SyncClient) -> None: ...
    def __init__(self, client: Any) -> None:
        self._driver = adopt(client)
        self._store: OutboxStore = store_of(self._driver, "outbox", "DeadLetters")

    @operation
    def read(self, *, source: str | None = None, limit: int = 100) -> Request[list[DeadLetter]]:
        """Return dead letters, oldest first.

        Args:
            source: a consumer's name, or "" for the relay's; None means all.
            limit: most letters returned, >= 1.
        """
        return self._store.dead(_source(source), whole("limit", limit, 1))

    @operation
    def retry(self, number: int) -> Request[bool]:
        """Put a letter back behind the others of its key, with no attempts counted; False if it is gone."""
        return self._store.revive(whole("number", number, 1))

    @operation
    def discard(self, number: int) -> Request[bool]:
        """Forget a letter for ever; False if it is gone."""
        return self._store.discard(whole("number", number, 1))


def _source(source: str | None) -> str | None:
    return source if source in (None, "") else checks.key("source", source)


def described(error: BaseException) -> str:
    """Return `error` as a short text that every database can hold."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error that cannot be told must not stop what deals with it
        text = type(error).__name__
    return text.replace("\0", "")[:LONGEST_ERROR].encode(errors="replace").decode()


def tell_buried(source: str, message: Message, attempts: int, text: str) -> None:
    """Emit that a message was given up."""
    if signals.subscribers:
        signals.emit(
            MessageBuried(
                source=source,
                message_id=message.id,
                topic=message.topic,
                attempts=attempts,
                error=text,
            )
        )
