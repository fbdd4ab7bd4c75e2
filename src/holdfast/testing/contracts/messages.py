"""What every backend must do for outbox, broker and consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from holdfast import signals
from holdfast.backends import AsyncBackend, Backend
from holdfast.backends.transactions import SqlAsync
from holdfast.errors import ConfigurationError
from holdfast.events import (
    Consumer,
    DeadLetters,
    Delivery,
    MemoryBroker,
    Message,
    MessageRefused,
    Outbox,
    Relay,
    SqlBroker,
    UnreadRemoved,
    consumer,
)
from holdfast.events.store import Inbox, store_of
from holdfast.testing.contracts._either import settle, together
from holdfast.testing.contracts.events import HOSTILE, caught

__all__ = ["BrokerContract", "ConsumerContract", "OutboxContract", "RetentionContract", "TransactionalOutboxContract"]

# Long enough that no lease ends by itself while a busy machine runs a test, short enough to wait for.
LONG = 30.0
SHORT = 1.0
# Valid JSON that no parser reads with a stack of the usual size.
# Deeper than any supported Python decodes, and not too deep for PostgreSQL to keep.
TOO_DEEP = "[" * 10_500 + "]" * 10_500
MAKE_UNREADABLE = "update holdfast_{} set payload = '{}' where position = {}"


class Publisher:
    """A publisher in the colour of `backend` that does what `accept` says, and notes what it accepted."""

    def __init__(self, backend: Backend[Any], accept: Callable[[Message], None] | None = None) -> None:
        self.accept: Callable[[Message], None] = accept or (lambda _: None)
        self.published: list[Message] = []
        self.publish: Any = self._publish_async if isinstance(backend, AsyncBackend) else self._publish

    @property
    def payloads(self) -> list[Any]:
        """What was published, in order."""
        return [message.payload for message in self.published]

    def _publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.accept(message)
            self.published.append(message)

    async def _publish_async(self, messages: Sequence[Message]) -> None:
        await asyncio.sleep(0)
        self._publish(messages)


async def add(backend: Backend[Any], *payloads: Any, key: str = "") -> None:
    """Leave one message per payload in the outbox."""
    for payload in payloads:
        await settle(Outbox(backend).add("payments", payload, key=key))


async def drain(worker: Any, *, turns: int = 50) -> int:
    """Run a relay or consumer until it finds nothing more to do; the number of messages."""
    total = 0
    for _ in range(turns):
        done = await settle(worker.run_once())
        if not done:
            return total
        total += done
    raise AssertionError("it never ended")


class OutboxContract:
    """What was added is published at least once, in order per key; what is refused stops nobody else."""

    async def test_messages_leave_in_order(self, backend: Backend[Any]) -> None:
        """A relay publishes all messages in the order of `add`, then nothing is left."""
        await add(backend, *range(25), key="order-1")
        broker = Publisher(backend)
        relay = Relay(backend, broker, batch_size=10)
        assert (await settle(relay.backlog())).messages == 25
        assert await drain(relay) == 25
        assert broker.payloads == list(range(25))
        assert (await settle(relay.backlog())).messages == 0

    async def test_a_message_arrives_as_it_was_added(self, backend: Backend[Any]) -> None:
        """Topic, key, payload, headers and id are the same on the other side."""
        message_id = await settle(
            Outbox(backend).add("a {b} 'c'", HOSTILE, key="k:%", headers={"trace": "é"}, message_id="m-1")
        )
        broker = Publisher(backend)
        await drain(Relay(backend, broker))
        assert broker.published == [
            Message(id="m-1", topic="a {b} 'c'", payload=HOSTILE, key="k:%", headers={"trace": "é"})
        ]
        assert message_id == "m-1"

    async def test_a_message_is_what_it_was_when_it_was_added(self, backend: Backend[Any]) -> None:
        """Whoever changes the objects afterwards changes nothing; tuples are lists on the other side, everywhere."""
        payload: dict[str, Any] = {"items": (1, 2)}
        headers = {"a": "b"}
        await settle(Outbox(backend).add("payments", payload, headers=headers))
        payload["items"] = ()
        headers["a"] = "c"
        broker = broker_of(backend)
        await drain(Relay(backend, broker))
        for name in ("first", "second"):
            (received,) = await settle(broker.receive("payments", name, 9))
            assert (received.message.payload, received.message.headers) == ({"items": [1, 2]}, {"a": "b"})
            received.message.payload["items"].append(3)

    async def test_one_id_waits_once(self, backend: Backend[Any]) -> None:
        """Adding a message again, because its first answer was lost, leaves one."""
        for _ in range(2):
            await settle(Outbox(backend).add("payments", 1, message_id="m-1"))
        assert (await settle(Outbox(backend).backlog())).messages == 1

    async def test_one_id_in_two_topics_is_two_messages(self, backend: Backend[Any]) -> None:
        """Ids count within their topic: each is published, also one that comes back from the dead letters."""
        await settle(Outbox(backend).add("mails", 1, message_id="order-1"))
        broker = Publisher(backend, _raise(MessageRefused("too large")))
        relay = Relay(backend, broker, max_attempts=1)
        await drain(relay)
        await settle(Outbox(backend).add("orders", 2, message_id="order-1"))
        (letter,) = await settle(DeadLetters(backend).read())
        assert await settle(DeadLetters(backend).retry(letter.number))
        broker.accept = lambda _: None
        await drain(relay)
        assert [(message.topic, message.payload) for message in broker.published] == [("orders", 2), ("mails", 1)]

    async def test_a_lost_answer_repeats_the_same_messages(self, backend: Backend[Any]) -> None:
        """When it is not known whether the broker has a message, it is published again with its id."""
        await add(backend, 1, 2, 3)
        first = Publisher(backend)

        def lose_the_answer(_: Message) -> None:
            if len(first.published) == 2:
                raise ConnectionResetError

        first.accept = lose_the_answer
        relay = Relay(backend, first)
        try:
            await settle(relay.run_once())
        except ConnectionResetError:
            pass
        else:
            raise AssertionError("the error was swallowed")
        first.accept = lambda _: None
        await drain(relay)
        assert first.payloads == [1, 2, 1, 2, 3]
        assert [message.id for message in first.published[:2]] == [message.id for message in first.published[2:4]]

    async def test_an_outage_counts_against_nobody(self, backend: Backend[Any]) -> None:
        """While the broker takes nothing, no message comes closer to the dead letters; then all go at once."""
        for batch_size in (100, 1):
            await add(backend, 1, 2)
            broker = Publisher(backend, _raise(RuntimeError("no servers")))
            relay = Relay(backend, broker, max_attempts=1, batch_size=batch_size)
            for _ in range(3):
                try:
                    await settle(relay.run_once())
                except RuntimeError:
                    continue
                raise AssertionError("the error was swallowed")
            broker.accept = lambda _: None
            assert await drain(relay) == 2
            assert await settle(DeadLetters(backend).read()) == []
            await settle(relay.run(stop=lambda: True))  # gives way to the next

    async def test_poison_stops_only_its_own_key(self, backend: Backend[Any]) -> None:
        """A refused message holds its key up until it is a dead letter; other keys go on at once."""
        await add(backend, "poison", "after poison", key="a")
        await add(backend, 1, 2, key="b")
        await add(backend, 3)
        broker = Publisher(backend, lambda message: _refuse(message, "poison"))
        relay = Relay(backend, broker, max_attempts=2, retry_delay=1.0)
        await drain(relay)
        assert broker.payloads == [1, 2, 3]
        await asyncio.sleep(1.1)
        await drain(relay)
        assert broker.payloads == [1, 2, 3, "after poison"]
        (letter,) = await settle(DeadLetters(backend).read())
        assert (letter.source, letter.message.payload, letter.attempts) == ("", "poison", 2)
        assert "MessageRefused" in letter.error
        assert (await settle(relay.backlog())).dead == 1

    async def test_poison_in_the_brokers_own_words_stops_only_its_own_key(self, backend: Backend[Any]) -> None:
        """Also when the refused messages and the followers of their keys fill whole batches."""
        for key in ("a", "b", "c"):
            await add(backend, "poison", *range(5), key=key)
        broker = Publisher(backend, lambda message: _refuse(message, "poison", ValueError))
        relay = Relay(backend, broker, batch_size=2, max_attempts=2, retry_delay=0.02)
        for _ in range(200):
            await add(backend, "innocent")
            with contextlib.suppress(ValueError):  # nothing was taken in this turn
                await settle(relay.run_once())
            if not (await settle(relay.backlog())).messages:
                break
            await asyncio.sleep(0.005)
        assert broker.payloads[0] == "innocent"
        for key in ("a", "b", "c"):
            first_seen = dict.fromkeys(one.payload for one in broker.published if one.key == key)
            assert list(first_seen) == list(range(5))
        assert [letter.attempts for letter in await settle(DeadLetters(backend).read())] == [2, 2, 2]

    async def test_dead_letters_can_live_again(self, backend: Backend[Any]) -> None:
        """A letter is published when its reason is gone and somebody says so; or forgotten."""
        await add(backend, 1, 2)
        broker = Publisher(backend, _raise(MessageRefused("too large")))
        letters: Any = DeadLetters(backend)
        relay = Relay(backend, broker, max_attempts=1)
        await drain(relay)
        first, second = await settle(letters.read(source=""))
        broker.accept = lambda _: None
        assert await settle(letters.retry(first.number))
        assert await settle(letters.discard(second.number))
        assert not await settle(letters.retry(second.number))
        await drain(relay)
        assert broker.published == [first.message]
        assert await settle(letters.read()) == []

    async def test_one_relay_is_active(self, backend: Backend[Any]) -> None:
        """A second relay waits while the first lives, and takes over when its lease is over."""
        broker = Publisher(backend)
        first = Relay(backend, broker, lease=SHORT, batch_size=1)
        second = Relay(backend, broker, lease=LONG)
        await add(backend, 1, 2)
        assert await settle(first.run_once()) == 1
        assert await settle(second.run_once()) == 0
        await asyncio.sleep(SHORT * 1.5)
        assert await settle(second.run_once()) == 1
        assert broker.payloads == [1, 2]

    async def test_a_shorter_lease_takes_nothing_from_a_longer(self, backend: Backend[Any]) -> None:
        """Relays with different leases respect each other's."""
        await add(backend, 1)
        assert await settle(Relay(backend, Publisher(backend), lease=LONG).run_once()) == 1
        await add(backend, 2)
        assert await settle(Relay(backend, Publisher(backend), lease=SHORT).run_once()) == 0

    async def test_a_relay_that_ends_gives_way(self, backend: Backend[Any]) -> None:
        """After `run` has ended another relay is active at once."""
        broker = Publisher(backend)
        await add(backend, 1)
        await settle(Relay(backend, broker, lease=LONG).run(stop=lambda: bool(broker.published)))
        await add(backend, 2)
        assert await settle(Relay(backend, broker).run_once()) == 1

    async def test_bad_input_is_refused_before_anything_is_done(self, backend: Backend[Any]) -> None:
        """Each wrong argument gets an error that names it."""
        outbox: Any = Outbox(backend)
        wrong: list[dict[str, Any]] = [
            {"topic": ""},
            {"topic": "a\n"},
            {"payload": float("inf")},
            {"payload": object()},
            {"key": "x" * 256},
            {"key": 0},
            {"key": None},
            {"headers": {"a": 1}},
            {"message_id": ""},
        ]
        for arguments in wrong:
            error = await caught(lambda: outbox.add(**{"topic": "t", "payload": 1, **arguments}))  # noqa: B023
            assert isinstance(error, ConfigurationError), arguments
        relay: Any = Relay
        for options in (
            {"batch_size": 0},
            {"batch_size": 2**63},
            {"poll_interval": 0},
            {"max_attempts": 0},
            {"lease": -1},
            {"lease": 1e300},
        ):
            error = await caught(lambda: relay(backend, Publisher(backend), **options))  # noqa: B023
            assert isinstance(error, ConfigurationError), options
        assert isinstance(await caught(lambda: relay(backend, object())), ConfigurationError)
        letters: Any = DeadLetters(backend)
        for call in (
            lambda: letters.read(limit=10**30),
            lambda: letters.read(source="a\0"),
            lambda: letters.read(source=7),
            lambda: letters.retry(2**63),
            lambda: letters.discard(0),
        ):
            assert isinstance(await caught(call), ConfigurationError)
        assert (await settle(outbox.backlog())).messages == 0


class TransactionalOutboxContract:
    """For databases: a message leaves only if its transaction commits."""

    async def test_what_is_rolled_back_never_leaves(self, backend: Backend[Any]) -> None:
        """A message of a transaction that failed does not exist; one of a committed does."""
        for payload, fails in ((1, True), (2, False)):
            try:
                await _in_transaction(backend, payload, fails=fails)
            except ZeroDivisionError:
                assert fails
        broker = Publisher(backend)
        await drain(Relay(backend, broker))
        assert broker.payloads == [2]

    async def test_what_cannot_be_read_stops_nobody(self, backend: Any) -> None:
        """A row that somebody else wrote, nested deeper than any stack, becomes a dead letter."""
        await add(backend, 1, 2, 3)
        await settle(backend.execute(MAKE_UNREADABLE.format("outbox", TOO_DEEP, 2)))
        broker = Publisher(backend)
        assert await drain(Relay(backend, broker)) == 3
        assert broker.payloads == [1, 3]
        (letter,) = await settle(DeadLetters(backend).read())
        assert letter.message.payload == TOO_DEEP
        assert "no JSON that can be read" in letter.error


class BrokerContract:
    """A fixture `broker`: a function of a lease in seconds that makes another receiver each time."""

    async def test_a_new_subscription_begins_at_the_beginning(self, broker: Callable[..., Any]) -> None:
        """Messages that were published before anybody asked are handed out, in order and unchanged."""
        sent = [
            Message(id=f"m-{number}", topic="t", payload=[number, HOSTILE], key="k", headers={"a": "b"})
            for number in range(5)
        ]
        await settle(broker().publish(sent))
        received = await settle(broker().receive("t", "s", 10))
        assert [delivery.message for delivery in received] == sent

    async def test_what_is_acknowledged_does_not_come_again(self, broker: Callable[..., Any]) -> None:
        """The rest does, in order, to the same receiver."""
        one = broker()
        await settle(one.publish(messages(*range(5))))
        received = await settle(one.receive("t", "s", 3))
        await settle(one.ack("t", "s", received[:1]))
        seen = []
        while received := await settle(one.receive("t", "s", 2)):
            seen += [delivery.message.payload for delivery in received]
            await settle(one.ack("t", "s", received))
        assert seen == [1, 2, 3, 4]

    async def test_a_late_acknowledgement_moves_nothing_back(self, broker: Callable[..., Any]) -> None:
        """What a receiver says that was replaced meanwhile does not undo what its successor said."""
        one = broker()
        await settle(one.publish(messages(*range(5))))
        received = await settle(one.receive("t", "s", 4))
        await settle(one.ack("t", "s", received))
        await settle(one.ack("t", "s", received[:1]))
        assert [delivery.message.payload for delivery in await settle(one.receive("t", "s", 10))] == [4]

    async def test_subscriptions_and_topics_do_not_touch_each_other(self, broker: Callable[..., Any]) -> None:
        """Each name sees all messages of its topic, and of no other."""
        one = broker()
        await settle(one.publish([*messages(1, 2), Message(id="x", topic="other", payload=3)]))
        for name in ("first", "second"):
            received = await settle(one.receive("t", name, 10))
            assert [delivery.message.payload for delivery in received] == [1, 2]
            await settle(one.ack("t", name, received))
        assert [delivery.message.payload for delivery in await settle(one.receive("other", "first", 10))] == [3]

    async def test_a_shorter_lease_takes_nothing_from_a_longer(self, broker: Callable[..., Any]) -> None:
        """Receivers with different leases respect each other's."""
        await settle(broker().publish(messages(1)))
        assert len(await settle(broker(LONG).receive("t", "s", 10))) == 1
        assert list(await settle(broker(10 * SHORT).receive("t", "s", 10))) == []

    async def test_who_leaves_is_replaced_at_once(self, broker: Callable[..., Any]) -> None:
        """What a receiver did not acknowledge before it left goes to the next one, in order."""
        await settle(broker().publish(messages(1, 2, 3)))
        first, second = broker(), broker()
        received = await settle(first.receive("t", "s", 2))
        await settle(first.ack("t", "s", received[:1]))
        await settle(first.leave("t", "s"))
        received = await settle(second.receive("t", "s", 10))
        if len(received) == 1:  # what was under way comes by itself, before what is new
            await settle(second.ack("t", "s", received))
            received += await settle(second.receive("t", "s", 10))
        assert [delivery.message.payload for delivery in received] == [2, 3]

    async def test_illegal_messages_are_refused(self, broker: Callable[..., Any]) -> None:
        """A message that some store cannot hold is refused, with those beside it, before anything is sent."""
        one = broker()
        for wrong in (
            {"id": "a\0"},
            {"id": ""},
            {"key": "a\n"},
            {"topic": "\ud800"},
            {"payload": {1: 2}},
            {"headers": {"a": 1}},
        ):
            given: dict[str, Any] = {"id": "m", "topic": "t", "payload": 1, **wrong}
            error = await caught(lambda: one.publish([*messages(1), Message(**given)]))  # noqa: B023
            assert isinstance(error, ConfigurationError), wrong
        assert list(await settle(one.receive("t", "s", 10))) == []

    async def test_a_silent_receiver_is_replaced(self, broker: Callable[..., Any]) -> None:
        """What one receiver holds is handed to nobody else, until its lease is over."""
        lease = 1.0
        await settle(broker().publish(messages(1, 2)))
        assert len(await settle(broker(lease).receive("t", "s", 10))) == 2
        other = broker(lease)
        assert list(await settle(other.receive("t", "s", 10))) == []
        await asyncio.sleep(lease * 1.2)
        received = await settle(other.receive("t", "s", 10))
        assert [delivery.message.payload for delivery in received] == [1, 2]


class RetentionContract:
    """A fixture `broker`: a function of options that makes another `SqlBroker` or `MemoryBroker` each time."""

    async def test_old_messages_go_as_fast_as_new_ones_come(self, broker: Callable[..., Any]) -> None:
        """What is older than `retention` and read by all goes while others are published, at any rate."""
        one = broker(retention=1e-6)
        for batch in range(20):
            first = 100 * batch
            await settle(one.publish(messages(*range(first, first + 100))))
            await settle(one.ack("t", "s", await settle(one.receive("t", "s", 100))))
        held = [delivery.message.payload for delivery in await settle(one.receive("t", "late", 2000))]
        assert len(held) <= 300
        assert held[-1] == 1999

    async def test_unread_messages_stay(self, broker: Callable[..., Any]) -> None:
        """What one subscription has not read stays, however old it is and whatever others have read."""
        one = broker(retention=1e-6)
        assert await settle(one.receive("t", "slow", 1)) == []
        for batch in range(5):
            first = 100 * batch
            await settle(one.publish(messages(*range(first, first + 100))))
            await settle(one.ack("t", "quick", await settle(one.receive("t", "quick", 100))))
        assert len(await settle(one.receive("t", "slow", 1000))) == 500

    async def test_a_subscription_that_ended_keeps_nothing(self, broker: Callable[..., Any]) -> None:
        """After `unsubscribe` what it had not read goes, and the name can begin anew."""
        one = broker(retention=1e-6)
        assert await settle(one.receive("t", "misspelt", 1)) == []
        await settle(one.publish(messages(*range(100))))
        assert await settle(one.unsubscribe("t", "misspelt"))
        assert not await settle(one.unsubscribe("t", "misspelt"))
        await settle(one.publish(messages(*range(100, 200))))
        received = await settle(one.receive("t", "misspelt", 1000))
        assert all(delivery.message.payload >= 100 for delivery in received)
        await settle(one.publish(messages(200)))
        assert (await settle(one.receive("t", "misspelt", 1000)))[-1].message.payload == 200

    async def test_max_age_removes_unread_messages_and_says_so(self, broker: Callable[..., Any]) -> None:
        """What nobody reads for too long goes, and a signal tells how many messages that were."""
        one = broker(retention=1e-7, max_age=1e-6)
        assert await settle(one.receive("t", "forgotten", 1)) == []
        heard: list[UnreadRemoved] = []
        end = signals.subscribe(UnreadRemoved, heard.append)
        try:
            for first in (0, 100):
                await settle(one.publish(messages(*range(first, first + 100))))
        finally:
            end()
        left = await settle(one.receive("t", "forgotten", 1000))
        assert sum(signal.messages for signal in heard if signal.topic == "t") == 200 - len(left) >= 100


class ConsumerContract:
    """The effect of each message once, whatever is handed out how often, and who fails."""

    async def test_a_duplicate_has_no_effect(self, backend: Backend[Any]) -> None:
        """A message that is published twice, or handed out several times, is handled once."""
        effects = await Effects.of(backend)
        broker = SqlBroker(backend)
        for _ in range(2):
            await settle(broker.publish(messages(1, 2)))
            await drain(effects.consumer(broker))
        for _ in range(2):
            # Under a name that never acknowledged anything the subscription begins at the oldest message again.
            assert await settle(effects.consumer(Forgetful(broker, "again")).run_once()) == 2
        assert await effects.seen() == [1, 2]

    async def test_one_id_in_two_topics_has_two_effects(self, backend: Backend[Any]) -> None:
        """A service that reads two topics under one name handles both messages of one id."""
        effects = await Effects.of(backend)
        broker = SqlBroker(backend)
        orders, mails = (Message(id="order-1", topic=topic, payload=len(topic)) for topic in ("orders", "mails"))
        await settle(broker.publish([orders, mails]))
        for topic in ("orders", "mails"):
            await drain(effects.consumer(broker, topic=topic))
        assert await effects.seen() == [6, 5]

    async def test_each_consumer_keeps_its_own_inbox(self, backend: Backend[Any]) -> None:
        """What one consumer forgets, another still recognises: of another name, or of another topic."""
        effects = await Effects.of(backend)
        broker = Forgetful(SqlBroker(backend))
        careful = effects.consumer(broker, name="careful")
        hasty = [effects.consumer(broker, name=name, topic="other", inbox_age=1e-6) for name in ("hasty", "careful")]
        await settle(broker.publish([*messages(1), *messages(*range(100, 200), topic="other")]))
        for _ in range(3):
            assert await settle(careful.run_once()) == 1
            assert [await settle(one.run_once()) for one in hasty] == [100, 100]
        seen = await effects.seen()
        assert seen.count(1) == 1
        assert seen.count(100) > 2, "the hasty ones forgot nothing, so this test shows nothing"

    async def test_a_failed_handler_leaves_nothing(self, backend: Backend[Any]) -> None:
        """What a handler did before it raised is undone; the message is tried again and then has its effect."""
        effects = await Effects.of(backend, fails={2: 2})
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(1, 2, 3)))
        await effects.until(broker, 3)
        assert await effects.seen() == [1, 3, 2]
        assert effects.calls == [1, 2, 3, 2, 2]
        assert await settle(DeadLetters(backend).read()) == []

    async def test_order_per_key_survives_failures(self, backend: Backend[Any]) -> None:
        """Messages of a key wait behind one that failed; those of other keys do not."""
        effects = await Effects.of(backend, fails={1: 2})
        broker = SqlBroker(backend)
        await settle(broker.publish([*messages(1, 2, key="a"), *messages(10, 11, key="b")]))
        await drain(effects.consumer(broker))
        await settle(broker.publish([*messages(3, key="a"), *messages(12, key="b")]))
        await effects.until(broker, 6)
        seen = await effects.seen()
        assert [value for value in seen if value < 10] == [1, 2, 3]
        assert seen[:2] == [10, 11]

    async def test_a_busy_key_catches_up_after_a_failure(self, backend: Backend[Any]) -> None:
        """Once the message that failed has its effect, those behind it follow at once, before newer ones."""
        effects = await Effects.of(backend, fails={0: 1})
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(*range(30), key="a")))
        worker = effects.consumer(broker)
        assert await settle(worker.run_once()) == 30
        await settle(broker.publish(messages(*range(30, 40), key="a")))
        await asyncio.sleep(0.05)
        assert await settle(worker.run_once()) == 40
        assert await effects.seen() == list(range(40))

    async def test_what_waits_is_bounded(self, backend: Backend[Any]) -> None:
        """While as many messages wait as may, no more are taken from the broker; afterwards all have their effect."""
        effects = await Effects.of(backend, fails={0: 1})
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(*range(40), key="a")))
        worker = effects.consumer(broker, max_deferred=10, batch_size=4, retry_delay=1.0)
        assert await drain(worker) == 12
        assert len(await settle(broker.receive("t", "effects", 99))) == 28
        await asyncio.sleep(1.05)
        await drain(worker)
        assert await effects.seen() == list(range(40))

    async def test_poison_becomes_a_dead_letter(self, backend: Backend[Any]) -> None:
        """After `max_attempts` a message is kept aside with its error, and its key goes on."""
        effects = await Effects.of(backend, fails={1: 99})
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(1, 2, key="a")))
        await effects.until(broker, 1)
        assert await effects.seen() == [2]
        assert effects.calls == [1, 1, 1, 2]
        (letter,) = await settle(DeadLetters(backend).read(source="effects"))
        assert (letter.message.payload, letter.attempts, letter.error) == (1, 3, "ValueError: not 1")
        effects.fails.clear()
        assert await settle(DeadLetters(backend).retry(letter.number))
        await effects.until(broker, 2)
        assert await effects.seen() == [2, 1]

    async def test_a_late_failure_takes_back_no_attempt(self, backend: Backend[Any]) -> None:
        """Of two processes that tried the same waiting message, the slower one does not set the count back."""
        inbox: Inbox = store_of(backend, "inbox", "Consumer")
        (message,) = messages(1)
        await settle(inbox.defer("c", message, 1, 0.0, "first").carry(backend))
        (waiting,) = await settle(inbox.due("c", "t", 9, 60.0).carry(backend))
        for attempts, taken in ((2, True), (3, True), (2, False)):
            delay = 0.0 if taken else 60.0
            assert await settle(inbox.put_off(waiting.number, attempts, delay, "again").carry(backend)) is taken
        (waiting,) = await settle(inbox.due("c", "t", 9, 60.0).carry(backend))
        assert waiting.attempts == 3

    async def test_what_is_not_legal_is_given_up_at_once(self, backend: Backend[Any]) -> None:
        """A message that no database can hold becomes a dead letter, once, and those behind it are handled."""
        effects = await Effects.of(backend)
        wrong: list[dict[str, Any]] = [
            {"id": "a\0b"},
            {"id": ""},
            {"id": 7},
            {"key": "a\0b"},
            {"headers": None},
            {"headers": {"a": 1}},
            {"topic": "another"},
            {"payload": object()},
            {"payload": {1: "a"}},
        ]
        given: list[dict[str, Any]] = [
            {"id": f"m-{number}", "topic": "t", "payload": number, **one} for number, one in enumerate([*wrong, {}])
        ]
        broker = Handing(backend, [Message(**one) for one in given])
        for _ in range(2):
            assert await settle(effects.consumer(broker).run_once()) == 10
        assert await effects.seen() == [9]
        letters = await settle(DeadLetters(backend).read(source="effects"))
        assert [letter.attempts for letter in letters] == [0] * 9
        assert {letter.message.topic for letter in letters} == {"t"}
        assert all(letter.error.startswith(("InvalidKey", "ConfigurationError")) for letter in letters)

    async def test_a_waiting_message_that_cannot_be_read_stops_nobody(self, backend: Any) -> None:
        """It becomes a dead letter, and its key goes on."""
        effects = await Effects.of(backend, fails={1: 1})
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(1, 2, key="a")))
        worker = effects.consumer(broker)
        await settle(worker.run_once())
        await settle(backend.execute(MAKE_UNREADABLE.format("deferred", TOO_DEEP, 1)))
        await effects.until(broker, 1)
        assert await effects.seen() == [2]
        assert len(await settle(DeadLetters(backend).read(source="effects"))) == 1

    async def test_an_error_without_words_is_counted(self, backend: Backend[Any]) -> None:
        """An exception that cannot be turned into a text is known by its type."""
        effects = await Effects.of(backend, fails={1: 99})
        effects.error = Wordless
        broker = SqlBroker(backend)
        await settle(broker.publish(messages(1, 2)))
        await drain(effects.consumer(broker, max_attempts=1))
        assert await effects.seen() == [2]
        (letter,) = await settle(DeadLetters(backend).read(source="effects"))
        assert letter.error == "Wordless"

    async def test_consumers_of_one_name_share_the_work(self, backend: Backend[Any]) -> None:
        """Several receivers at once handle each message once, and in order."""
        effects = await Effects.of(backend)
        await settle(SqlBroker(backend).publish(messages(*range(30), key="a")))
        workers = [effects.consumer(SqlBroker(backend), batch_size=3) for _ in range(4)]
        for _ in range(200):
            results = await together(backend, 4, lambda number: workers[number].run_once())
            assert all(isinstance(result, int) for result in results), results
            if len(await effects.seen()) == 30:
                break
        assert await effects.seen() == list(range(30))

    async def test_the_effect_of_a_takeover_is_still_once(self, backend: Backend[Any]) -> None:
        """A receiver that outlives its lease, and its successor, do not both handle a message."""
        effects = await Effects.of(backend)
        await settle(SqlBroker(backend).publish(messages(*range(10), key="a")))
        first, second = (effects.consumer(SqlBroker(backend, lease=0.001)) for _ in range(2))
        results = await together(backend, 2, lambda number: (first, second)[number].run_once())
        assert all(isinstance(result, int) for result in results), results
        await drain(first)
        assert await effects.seen() == list(range(10))

    async def test_a_consumer_that_ends_gives_way(self, backend: Backend[Any]) -> None:
        """After `run` has ended another process receives at once."""
        effects = await Effects.of(backend)
        for number in (1, 2):
            broker = SqlBroker(backend, lease=LONG)
            await settle(broker.publish(messages(number)))
            await settle(effects.consumer(broker).run(stop=lambda: len(effects.calls) == number))  # noqa: B023
        assert await effects.seen() == [1, 2]

    async def test_the_decorator_makes_a_consumer(self, backend: Backend[Any]) -> None:
        """`@consumer` is `Consumer` spelled at the handler."""
        effects = await Effects.of(backend)
        broker = SqlBroker(backend)
        handler: Any = effects.handler
        decorator: Any = consumer(backend, broker, topic="t", name="effects")
        handle = decorator(handler)
        await settle(broker.publish(messages(1)))
        assert await settle(handle.run_once()) == 1
        assert isinstance(handle, Consumer)

    async def test_the_wrong_kind_of_handler_is_refused(self, backend: Backend[Any]) -> None:
        """A handler of the other colour is an error, and never a lost effect."""

        def blocking(tx: Any, message: Message) -> None: ...

        async def awaited(tx: Any, message: Message) -> None: ...

        wrong: Any = blocking if isinstance(backend, AsyncBackend) else awaited
        broker = SqlBroker(backend)
        error = await caught(lambda: Consumer(backend, broker, "effects", wrong, topic="t"))
        assert isinstance(error, ConfigurationError)
        if not isinstance(backend, AsyncBackend):
            await settle(broker.publish(messages(1)))
            kind: Any = Consumer
            hidden = kind(backend, broker, "effects", lambda *given: wrong(*given), topic="t")  # noqa: PLW0108 - hides
            assert isinstance(await caught(hidden.run_once), ConfigurationError)
            assert len(await settle(SqlBroker(backend).receive("t", "another", 9))) == 1


def messages(*payloads: Any, key: str = "", topic: str = "t") -> list[Message]:
    """Return one message per payload, whose id is the payload."""
    return [Message(id=f"m-{payload}", topic=topic, payload=payload, key=key) for payload in payloads]


def broker_of(backend: Backend[Any], lease: float = LONG) -> Any:
    """Return the broker that lives in `backend`."""
    kind = MemoryBroker if backend.dialect == "memory" else SqlBroker
    return kind(backend, lease=lease)


class Forgetful:
    """A broker that forgets each acknowledgement, as `name`: it hands everything out again and again."""

    def __init__(self, broker: Any, name: str = "forgetful") -> None:
        self._broker = broker
        self._name = name
        self._driver = broker._driver  # noqa: SLF001 - its colour
        self.publish: Any = broker.publish

    def receive(self, topic: str, name: str, limit: int) -> Any:
        """Hand everything out."""
        return self._broker.receive(topic, f"{self._name} {name}", limit)

    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> None:
        """Forget it."""


class Handing:
    """A broker in the colour of `backend` that hands the same messages out, whatever they are."""

    def __init__(self, backend: Backend[Any], given: Sequence[Message]) -> None:
        self._driver = backend
        self._deliveries = [Delivery(message, number) for number, message in enumerate(given)]

    def receive(self, topic: str, name: str, limit: int) -> Sequence[Delivery]:
        """Hand all out."""
        del topic, name
        return self._deliveries[:limit]

    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> None:
        """Forget it."""


class Wordless(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Effects:
    """A handler with an effect in the database, which fails as often as it is told to."""

    def __init__(self, backend: Any, fails: dict[int, int]) -> None:
        self.backend = backend
        self.fails = fails
        self.calls: list[int] = []
        self.error: type[Exception] = ValueError
        self.handler: Any = self._handle_async if isinstance(backend, AsyncBackend) else self._handle

    @classmethod
    async def of(cls, backend: Any, *, fails: dict[int, int] | None = None) -> Effects:
        """Make the table."""
        await settle(
            backend.execute(
                "create table effect (place serial primary key, value bigint)"
                if backend.dialect == "postgres"
                else "create table effect (place integer primary key, value bigint)"
            )
        )
        return cls(backend, fails or {})

    def consumer(self, broker: Any, *, name: str = "effects", topic: str = "t", **options: Any) -> Any:
        """Return another consumer of this name."""
        chosen = {"max_attempts": 3, "retry_delay": 0.02, **options}
        return Consumer(self.backend, broker, name, self.handler, topic=topic, **chosen)

    async def until(self, broker: Any, effects: int) -> None:
        """Consume until there are so many effects."""
        worker = self.consumer(broker)
        for _ in range(500):
            await drain(worker)
            if len(await self.seen()) == effects:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(await self.seen())

    async def seen(self) -> list[int]:
        """Return the effects in order."""
        rows = await settle(self.backend.execute("select value from effect order by place"))
        return [row[0] for row in rows]

    def _handle(self, tx: Any, message: Message) -> None:
        tx.execute("insert into effect (value) values (:value)", {"value": message.payload})
        self._end(message)

    async def _handle_async(self, tx: Any, message: Message) -> None:
        await tx.execute("insert into effect (value) values (:value)", {"value": message.payload})
        self._end(message)

    def _end(self, message: Message) -> None:
        self.calls.append(message.payload)
        if self.fails.get(message.payload, 0) > 0:
            self.fails[message.payload] -= 1
            error = f"not {message.payload}"
            raise self.error(error)


def _fail_if(*, fails: bool) -> None:
    if fails:
        raise ZeroDivisionError


async def _in_transaction(backend: Any, payload: Any, *, fails: bool) -> None:
    if isinstance(backend, SqlAsync):
        async with backend.transaction() as tx:
            await Outbox(tx).add("payments", payload)
            _fail_if(fails=fails)
    else:
        with backend.transaction() as tx:
            Outbox(tx).add("payments", payload)
            _fail_if(fails=fails)


def _raise(error: Exception) -> Callable[[Message], None]:
    def accept(message: Message) -> None:
        del message
        raise error

    return accept


def _refuse(message: Message, payload: Any, kind: type[Exception] = MessageRefused) -> None:
    if message.payload == payload:
        error = "too large"
        raise kind(error)
