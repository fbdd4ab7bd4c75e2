"""The programs that the events tests run as processes of their own, and how they die.

    python -m tests.integration.events_processes write URL NAME SECONDS
    python -m tests.integration.events_processes relay URL BROKER_URL DEATH
    python -m tests.integration.events_processes consume URL BROKER_URL DEATH

DEATH is "-", or where and when SIGKILL strikes: `marking:2` is between the second publish and its mark,
`handling:5` in the middle of the fifth handler's transaction, `acking:1` between commit and acknowledgement.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import holdfast
from holdfast.events import (
    Consumer,
    Delivery,
    Event,
    EventStore,
    Message,
    Outbox,
    RedisStreamBroker,
    Relay,
    SqlBroker,
)

# Short, so that a successor need not wait long for what a dead process held.
LEASE = 0.3


class Death:
    """SIGKILL at the n-th call at one place."""

    def __init__(self, text: str) -> None:
        self.place, _, number = text.partition(":")
        self.left = int(number or 0)

    def strike(self, place: str) -> None:
        if place == self.place:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalBroker:
    """A broker in whose shadow the process may die."""

    def __init__(self, url: str, death: Death) -> None:
        kind: Any = RedisStreamBroker if url.startswith("redis") else SqlBroker
        self.broker = kind(holdfast.connect(url), lease=LEASE)
        self.death = death

    def publish(self, messages: Sequence[Message]) -> None:
        self.broker.publish(messages)
        self.death.strike("marking")

    def receive(self, topic: str, name: str, limit: int) -> Sequence[Delivery]:
        deliveries: Sequence[Delivery] = self.broker.receive(topic, name, limit)
        return deliveries

    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> None:
        self.death.strike("acking")
        self.broker.ack(topic, name, deliveries)


def write(url: str, name: str, seconds: str) -> None:
    """Append events in transactions that write something else first and stay open for 0 to 5 ms."""
    dice = random.Random(name)
    ends = time.monotonic() + float(seconds)
    with holdfast.connect(url) as db:
        number = written = 0
        while time.monotonic() < ends:
            number += 1
            events = [Event("written", {"by": name}) for _ in range(dice.randint(1, 3))]
            with db.transaction() as tx:
                tx.execute("insert into business (name) values (:name)", {"name": name})
                EventStore(tx).append(f"{name}-{number}", events, expected_version=0)
                time.sleep(dice.uniform(0, 0.005))
            written += len(events)
    print(written)


def relay(url: str, broker_url: str, death: str) -> None:
    """Publish until the outbox is empty, or until death."""
    with holdfast.connect(url) as db:
        worker = Relay(db, MortalBroker(broker_url, Death(death)), batch_size=20, poll_interval=0.01, lease=LEASE)
        worker.run(stop=lambda: not Outbox(db).backlog().messages)


def consume(url: str, broker_url: str, death: str) -> None:
    """Keep the ledger until it has as many entries as `expected` says, or until death."""
    fate = Death(death)

    def enter(tx: Any, message: Message) -> None:
        number = {"message_id": message.id, "key": message.key, "number": message.payload}
        tx.execute("insert into entry (message_id, key, number) values (:message_id, :key, :number)", number)
        fate.strike("handling")

    with holdfast.connect(url) as db:
        broker = MortalBroker(broker_url, fate)
        worker = Consumer(db, broker, "ledger", enter, topic="entries", batch_size=20, poll_interval=0.01)
        worker.run(stop=lambda: bool(db.execute("select 1 from expected where n <= (select count(*) from entry)")))


if __name__ == "__main__":
    {"write": write, "relay": relay, "consume": consume}[sys.argv[1]](*sys.argv[2:])
