"""Event sourcing, the transactional outbox, and idempotent consumers."""

from holdfast.errors import MessageRefused
from holdfast.events.aggregate import Aggregate, when
from holdfast.events.attempts import DuplicateSkipped, MessageFailed, MessageHandled
from holdfast.events.broker import Broker, Publisher
from holdfast.events.dead_letters import DeadLetters, MessageBuried
from holdfast.events.event import ANY, Event, Position
from holdfast.events.event_store import EventStore
from holdfast.events.idempotent_consumer import Consumer, ConsumerFailed, consumer
from holdfast.events.identity import uuid7
from holdfast.events.message import Backlog, DeadLetter, Delivery, Message
from holdfast.events.outbox import Outbox
from holdfast.events.redis_stream import RedisStreamBroker
from holdfast.events.relay import OutboxLag, OutboxPublished, Relay, RelayFailed
from holdfast.events.sql_broker import MemoryBroker, SqlBroker, UnreadRemoved

__all__ = [
    "ANY",
    "Aggregate",
    "Backlog",
    "Broker",
    "Consumer",
    "ConsumerFailed",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "DuplicateSkipped",
    "Event",
    "EventStore",
    "MemoryBroker",
    "Message",
    "MessageBuried",
    "MessageFailed",
    "MessageHandled",
    "MessageRefused",
    "Outbox",
    "OutboxLag",
    "OutboxPublished",
    "Position",
    "Publisher",
    "RedisStreamBroker",
    "Relay",
    "RelayFailed",
    "SqlBroker",
    "UnreadRemoved",
    "consumer",
    "uuid7",
    "when",
]
