"""`RedisStreamBroker`: messages through Redis Streams, with consumer groups.

What it guarantees: every message is handed out until it is acknowledged, as long as the stream holds
it and Redis keeps what it confirmed (`appendonly yes`; `appendfsync always` to survive a power cut).
Messages are handed out in the order of the stream to one receiver at a time, unless `ordered` is
switched off. What it does not: `max_messages` removes the oldest, read or not; a message published
twice appears twice, with the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from holdfast import checks
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.backends.redis.keys import physical_key
from holdfast.backends.redis.request import Command, Eval, Script
from holdfast.errors import ConfigurationError, MessageRefused
from holdfast.events import _json
from holdfast.events._json import Unreadable
from holdfast.events._ranges import seconds, whole
from holdfast.events.broker import OwnBroker
from holdfast.events.message import Delivery, Message, check_message, read_message
from holdfast.operations import Async, C, Request, Steps, Sync, operation

__all__ = ["RedisStreamBroker"]

DEFAULT_MAX_MESSAGES = 1_000_000
DEFAULT_LEASE = 30.0
# One receive in so many also forgets receivers that ended long ago.
TIDY_ONE_IN = 1024
# More entries than a batch usually has, and fewer than Lua can unpack.
MOST_LEFT = 5000

_PUBLISH = Script(__file__, "stream_publish.lua")
_RECEIVE = Script(__file__, "stream_receive.lua")
_LEAVE = Script(__file__, "stream_leave.lua")


class RedisStreamBroker(OwnBroker[C]):
    """Topics as Redis streams (Redis 6.2 or newer, Valkey), subscriptions as their consumer groups.

    Args:
        client: a client or backend of Redis; its colour decides the operations'.
        max_messages: about how many messages a topic holds, >= 1; older ones are removed, read or not.
        lease: seconds after which messages that a receiver did not acknowledge go to another, > 0.
            Longer than a whole batch takes.
        ordered: whether one receiver at a time gets messages, so that they keep their order, also when
            it dies. False shares them among all receivers of a name, without regard to keys.

    Raises:
        ConfigurationError: the client is not one of Redis, or an argument is not legal.
    """

    @overload
    def __init__(
        self: RedisStreamBroker[Async],
        client: AsyncClient,
        *,
        max_messages: int = ...,
        lease: float = ...,
        ordered: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: RedisStreamBroker[Sync],
        client: SyncClient,
        *,
        max_messages: int = ...,
        lease: float = ...,
        ordered: bool = ...,
    ) -> None: ...
    def __init__(
        self,
        client: Any,
        *,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        lease: float = DEFAULT_LEASE,
        ordered: bool = True,
    ) -> None:
        self.max_messages: int = whole("max_messages", max_messages, 1)
        self.lease: float = seconds("lease", lease)
        self.ordered: bool = checks.flag("ordered", ordered)
        self._driver = adopt(client)
        if self._driver.dialect != "redis":
            message = f"RedisStreamBroker takes a client of redis, not {self._driver!r}"
            raise ConfigurationError(message)
        self._receiver = f"{self._driver.random.getrandbits(128):032x}"

    @operation
    def publish(self, messages: Sequence[Message]) -> Steps[None]:
        """Append `messages` in this order, those of one topic in one round trip.

        Raises:
            ConfigurationError: one of them is not legal; nothing was sent.
            MessageRefused: the topic's key holds something that is not a stream.
        """
        topics: dict[str, list[Message]] = {}
        for message in messages:
            check_message(message)
            topics.setdefault(message.topic, []).append(message)
        for topic, its in topics.items():
            try:
                yield from self._appending(topic, its)
            except Exception as error:
                if "WRONGTYPE" not in str(error):
                    raise
                reason = f"{_key(topic)} holds something that is not a stream"
                raise MessageRefused(reason, topic=topic) from error

    @operation
    def receive(self, topic: str, name: str, limit: int) -> Request[Sequence[Delivery]]:
        """Return messages that wait for the group `name`, which begins with the oldest there is."""
        tidy = self._driver.random.random() * TIDY_ONE_IN < 1
        arguments = (
            name,
            self._receiver,
            whole("limit", limit, 1),
            int(self.lease * 1000),
            int(self.ordered),
            int(tidy),
        )
        return Eval(_RECEIVE, [_key(topic)], arguments, lambda entries: _deliveries(topic, entries))

    @operation
    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> Steps[None]:
        """Note that `deliveries` are dealt with."""
        if deliveries:
            receipts: list[bytes] = [delivery.receipt for delivery in deliveries]
            yield from Command[Any](["XACK", _key(topic), name, *receipts], writes=True)

    @operation
    def leave(self, topic: str, name: str) -> Request[Any]:
        """Let another process have at once what this one did not acknowledge."""
        arguments = (name, self._receiver, int(self.lease * 1000), MOST_LEFT)
        return Eval(_LEAVE, [_key(topic)], arguments, int)

    def _appending(self, topic: str, messages: Sequence[Message]) -> Request[Any]:
        arguments: list[str | int] = [self.max_messages]
        for message in messages:
            payload = _json.encode("payload", message.payload)
            arguments += [message.id, message.key, payload, _json.encode("headers", dict(message.headers))]
        return Eval(_PUBLISH, [_key(topic)], arguments, int)

    def __repr__(self) -> str:
        return f"<RedisStreamBroker on {self._driver.place}>"


def _key(topic: str) -> str:
    return physical_key("stream", topic)


def _deliveries(topic: str, entries: Sequence[Any]) -> list[Delivery]:
    return [Delivery(_message(topic, entry_id, flat), entry_id) for entry_id, flat in entries]


def _message(topic: str, entry_id: bytes, flat: Sequence[bytes]) -> Message:
    # Anybody can write to a stream: an entry that is none of ours is for the consumer to give up.
    texts = [text.decode(errors="backslashreplace") for text in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    try:
        return read_message(fields["id"], topic, fields["key"], fields["payload"], fields["headers"])
    except KeyError as missing:
        lost = Unreadable(str(fields), f"the entry of the stream has no field {missing}")
        return Message(id=entry_id.decode(), topic=topic, payload=lost)
