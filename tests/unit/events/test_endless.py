"""Relays and consumers go on while a broker or store is away, and end when they are told to."""

import asyncio
import logging
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

import holdfast
from holdfast import signals
from holdfast.errors import BackendUnavailable, ConfigurationError, InvalidKey
from holdfast.events import (
    Consumer,
    DeadLetters,
    DuplicateSkipped,
    EventStore,
    MemoryBroker,
    Message,
    MessageBuried,
    MessageFailed,
    MessageHandled,
    Outbox,
    OutboxLag,
    OutboxPublished,
    RedisStreamBroker,
    Relay,
    RelayFailed,
    SqlBroker,
)
from holdfast.events._endless import LONGEST_DELAY, backoff


class FlakyPublisher:
    """Is away for the first `failures` publishes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.published: list[Message] = []

    def publish(self, messages: Sequence[Message]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError("broker is away")
        self.published += messages


def listen(*kinds: type[signals.Signal]) -> list[signals.Signal]:
    heard: list[signals.Signal] = []
    for kind in kinds:
        signals.subscribe(kind, heard.append)
    return heard


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "subscribers", ())


def test_a_relay_waits_for_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    heard = listen(RelayFailed, OutboxPublished, OutboxLag)
    with holdfast.connect("memory://") as backend, caplog.at_level(logging.WARNING, "holdfast.events"):
        Outbox(backend).add("t", 1)
        broker = FlakyPublisher(2)
        Relay(backend, broker, poll_interval=0.001).run(stop=lambda: bool(broker.published))
    kinds = [type(signal) for signal in heard]
    assert [kind for kind in kinds if kind is not OutboxLag] == [RelayFailed, RelayFailed, OutboxPublished]
    assert isinstance(heard[0], OutboxLag)
    assert (heard[0].messages, heard[0].dead) == (1, 0)
    assert len(caplog.records) == 1, "one line per outage, not one per try"


def test_a_relay_outlives_a_message_that_its_broker_calls_a_wrong_argument() -> None:
    """What a broker says about a message is no fault of the relay's own configuration."""
    published: list[object] = []

    class Strict:
        def publish(self, messages: Sequence[Message]) -> None:
            for message in messages:
                if message.payload == "bad":
                    raise InvalidKey("topic has a wildcard", parameter="topic")
                published.append(message.payload)

    with holdfast.connect("memory://") as backend:
        relay = Relay(backend, Strict(), max_attempts=1)
        Outbox(backend).add("t", "bad")
        with pytest.raises(InvalidKey):
            relay.run_once()

        def stop() -> bool:
            if heard:
                Outbox(backend).add("t", "good", message_id="good")
            return "good" in published

        heard = listen(RelayFailed)
        relay.run(stop=stop)
        assert [letter.message.payload for letter in DeadLetters(backend).read()] == ["bad"]


async def test_a_cancelled_relay_gives_way_at_once() -> None:
    async with holdfast.connect_async("memory://") as backend:
        broker = MemoryBroker(backend)
        running = asyncio.create_task(Relay(backend, broker, lease=60).run())
        await Outbox(backend).add("t", 1)
        while (await Outbox(backend).backlog()).messages:  # noqa: ASYNC110 - the backlog has no event to wait for
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await Outbox(backend).add("t", 2)
        assert await Relay(backend, broker).run_once() == 1


async def test_a_cancelled_consumer_gives_way_at_once(tmp_path: Path) -> None:
    handled: list[str] = []

    async def handle(tx: object, message: Message) -> None:
        handled.append(message.id)

    async with holdfast.connect_async(f"sqlite:///{tmp_path}/a.db") as db:
        brokers = [SqlBroker(db, lease=60) for _ in range(2)]
        first, second = (Consumer(db, broker, "c", handle, topic="t") for broker in brokers)
        await brokers[0].publish([Message(id="1", topic="t")])
        running = asyncio.create_task(first.run())
        while not handled:  # noqa: ASYNC110 - a handler has no event to wait for
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await brokers[0].publish([Message(id="2", topic="t")])
        await second.run_once()
    assert handled[-1] == "2"


def test_a_consumer_tells_what_it_does(tmp_path: Path) -> None:
    heard = listen(MessageHandled, DuplicateSkipped, MessageFailed, MessageBuried)

    def handle(tx: object, message: Message) -> None:
        if message.payload == "poison":
            raise ValueError("a \0 in an error")

    with holdfast.connect(f"sqlite:///{tmp_path}/a.db") as db:
        broker = SqlBroker(db)
        broker.publish([Message(id=text, topic="t", payload=text) for text in ("fine", "poison")])
        worker = Consumer(db, broker, "c", handle, topic="t", max_attempts=1)
        assert worker.run_once() == 2
        db.execute("update holdfast_subscription set position = 0")
        assert worker.run_once() == 2
    assert [type(signal) for signal in heard] == [
        MessageHandled,
        MessageFailed,
        MessageBuried,
        DuplicateSkipped,
        DuplicateSkipped,
    ]


def test_a_store_that_is_away_counts_against_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the store's own, so the message was not tried, and comes again."""
    handled: list[object] = []
    with holdfast.connect(f"sqlite:///{tmp_path}/a.db") as db:
        broker = SqlBroker(db)
        broker.publish([Message(id="1", topic="t", payload=1)])
        worker = Consumer(db, broker, "c", lambda tx, message: handled.append(message.payload), topic="t")

        def away(steps: object) -> None:
            raise BackendUnavailable("away", backend="sqlite", operation="begin")

        monkeypatch.setattr(db, "atomic", away)
        with pytest.raises(BackendUnavailable):
            worker.run_once()
        monkeypatch.undo()
        assert worker.run_once() == 1
        assert handled == [1]
        assert db.execute("select count(*) from holdfast_deferred") == [(0,)]


def test_old_inbox_rows_and_messages_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inbox by age; the queue by age and only what every subscription has read."""
    monkeypatch.setattr("holdfast.events._pruning.ONE_IN", 1)
    with holdfast.connect(f"sqlite:///{tmp_path}/a.db") as db:
        broker = SqlBroker(db, retention=1e-9)
        assert broker.receive("t", "late", 9) == broker.receive("t", "c", 9) == []
        broker.publish([Message(id="1", topic="t"), Message(id="2", topic="t")])
        worker = Consumer(db, broker, "c", lambda tx, message: None, topic="t", inbox_age=1e-9, batch_size=1)
        assert [worker.run_once() for _ in range(3)] == [1, 1, 0]
        assert worker.run_once() == 0
        assert db.execute("select count(*) from holdfast_inbox") == [(0,)]
        broker.publish([Message(id="3", topic="t")])
        assert len(broker.receive("t", "late", 9)) == 3, "an unread message is not removed"
        broker.ack("t", "late", broker.receive("t", "late", 9))
        broker.publish([Message(id="4", topic="t")])
        assert db.execute("select message_id from holdfast_message order by position") == [("3",), ("4",)]


def test_pauses_double_up_to_a_minute() -> None:
    dice = random.Random(1)
    pauses = [backoff(attempts, 1.0, dice) for attempts in range(1, 2000)]
    assert 0.5 <= pauses[0] <= 1.0
    assert 1.0 <= pauses[1] <= 2.0
    assert all(LONGEST_DELAY / 2 <= pause <= LONGEST_DELAY for pause in pauses[7:])


async def test_clients_that_cannot_carry_a_pattern_are_refused_with_the_reason(tmp_path: Path) -> None:
    memory, awaited = holdfast.connect("memory://"), holdfast.connect_async(f"sqlite:///{tmp_path}/a.db")
    broker = MemoryBroker(memory)
    with pytest.raises(ConfigurationError, match="transactions cannot hold a function"):
        Consumer(memory, broker, "c", lambda tx, message: None, topic="t")
    with pytest.raises(ConfigurationError, match="blocking and the client is asyncio"):
        Relay(awaited, broker)
    with pytest.raises(ConfigurationError, match="does not run on redis"):
        EventStore(holdfast.connect("redis://localhost"))
    with pytest.raises(ConfigurationError, match="sqlite or postgres"):
        SqlBroker(memory)
    with pytest.raises(ConfigurationError, match="client of redis"):
        RedisStreamBroker(memory)


def test_an_open_transaction_of_the_users_own_connection_is_joined(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    with holdfast.connect(f"sqlite:///{tmp_path}/a.db") as db:
        assert Outbox(db).backlog().messages == 0
        for end in ("rollback", "commit"):
            connection.execute("begin immediate")
            Outbox(connection).add("t", end)
            connection.execute(end)
        assert Outbox(db).backlog().messages == 1
    connection.close()
