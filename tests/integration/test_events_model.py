"""The SQL of events gives the same answers as the memory model, on random histories."""

import importlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.events import Event, Message, Position, uuid7
from tests.integration import time_travel
from tests.integration.time_travel import World

HISTORIES = 12
STEPS = 150
STREAMS = ("a", "{b}:' %")
TOPICS, KEYS, NAMES = ("t", "T"), ("", "k"), ("ann", "bob")
TTL = 20.0
PAUSES = (5.0, 30.0)
MOST = 1000


class Side:
    """The model, or the store that is compared with it."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.carrier = importlib.import_module(f"holdfast.events.{kind}")

    def ask(self, part: str, method: str, *arguments: Any) -> Any:
        return self.world.ask(getattr(getattr(self.carrier, part), method)(*arguments))

    def pause(self, seconds: float) -> None:
        self.world.advance(seconds)
        if self.kind == "postgres":
            ends = {
                "outbox": "retry_at",
                "relay": "expires_at",
                "subscription": "expires_at",
                "message": "published_at",
            }
            for table, column in ends.items():
                age = f"update holdfast_{table} set {column} = {column} - make_interval(secs => :seconds::float8)"
                self.world.backend.execute(age, {"seconds": seconds})  # type: ignore[attr-defined]

    def number_of(self, message_id: str, listed: list[Any]) -> int:
        """Numbers are the store's own business: sequences skip."""
        return next((one.number for one in listed if one.message.id == message_id), MOST * MOST)

    # -- One method per step; each returns what model and store must agree on --------------------------------------

    def append(self, stream: str, events: list[Event], expected: int | None) -> object:
        return self.ask("event_log", "append", stream, events, expected)

    def placed(self, stream: str, events: list[Event]) -> object:
        return self.ask("event_log", "placed", stream, [event.id for event in events])

    def read(self, stream: str, after: int, limit: int) -> object:
        return [(one.version, one.id, one.data) for one in self.ask("event_log", "read", stream, after, limit)]

    def read_all(self, skip: int, limit: int) -> object:
        first = self.ask("event_log", "read_all", Position.START, MOST)
        after = first[skip].position if skip < len(first) else Position.START
        return [(one.stream, one.version) for one in self.ask("event_log", "read_all", after, limit)]

    def add(self, message: Message) -> object:
        return self.ask("outbox", "add", message)

    def batch(self, limit: int) -> object:
        return [(one.message, one.attempts) for one in self.ask("outbox", "batch", limit, 60.0)]

    def heads(self, skip: int, limit: int) -> object:
        pending = self.ask("outbox", "batch", MOST, 60.0)
        after = pending[skip].number if skip < len(pending) else 0
        return [(one.message, one.attempts) for one in self.ask("outbox", "heads", after, limit, 60.0)]

    def remove(self, message_ids: list[str]) -> object:
        pending = self.ask("outbox", "batch", MOST, 60.0)
        return self.ask("outbox", "remove", [self.number_of(one, pending) for one in message_ids])

    def refuse(self, message_id: str) -> object:
        pending = self.ask("outbox", "batch", MOST, 60.0)
        return self.ask("outbox", "refuse", self.number_of(message_id, pending), 25.0)

    def bury(self, message_id: str) -> object:
        for one in self.ask("outbox", "batch", MOST, 60.0):
            if one.message.id == message_id:
                self.ask("outbox", "bury", one, "why")
        return self.dead()

    def dead(self) -> list[tuple[object, ...]]:
        letters = self.ask("outbox", "dead", None, MOST)
        return [(one.source, one.message, one.attempts, one.error) for one in letters]

    def settle_letter(self, method: str, message_id: str) -> object:
        letters = self.ask("outbox", "dead", "", MOST)
        return self.ask("outbox", method, self.number_of(message_id, letters)), self.dead()

    def backlog(self) -> object:
        found = self.ask("outbox", "backlog")
        return found.messages, found.dead

    def relay(self, owner: str, method: str) -> object:
        return self.ask("outbox", method, owner, *([TTL] if method == "claim" else []))

    def publish(self, messages: list[Message]) -> object:
        return self.ask("queue", "publish", messages)

    def peek(self, topic: str, name: str, limit: int) -> list[Message]:
        return [one.message for one in self.ask("queue", "peek", topic, name, limit)]

    def ack(self, topic: str, name: str, count: int) -> object:
        waiting = self.ask("queue", "peek", topic, name, MOST)
        for one in [*waiting[count : count + 1], *waiting[:1]]:  # the second comes late, and changes nothing
            self.ask("queue", "ack", topic, name, one.receipt)
        return self.peek(topic, name, MOST)

    def subscription(self, method: str, topic: str, name: str, owner: str) -> object:
        arguments = {"subscribe": (), "claim": (owner, TTL), "release": (owner,)}[method]
        reply = self.ask("queue", method, topic, name, *arguments)
        return None if reply is None else "granted"

    def unsubscribe(self, topic: str, name: str) -> object:
        return self.ask("queue", "unsubscribe", topic, name)

    def prune(self, topic: str, max_age: float | None, limit: int) -> object:
        lost = self.ask("queue", "prune", topic, 20.0, max_age, limit)
        return lost, [self.peek(topic, name, MOST) for name in (*NAMES, "late")]


def steps(dice: random.Random) -> dict[str, Callable[[], tuple[Any, ...]]]:
    """Return the steps by name, each with a function that draws its arguments."""
    events = [Event("happened", {"n": number}, id=uuid7(number + 1.0, dice)) for number in range(40)]

    def message() -> Message:
        number = dice.randrange(12)
        return Message(id=f"m-{number // 2}", topic=TOPICS[number % 2], key=KEYS[number // 2 % 2], payload=number)

    def some_events() -> list[Event]:
        return dice.sample(events, dice.randint(1, 3))

    def message_id() -> str:
        return f"m-{dice.randrange(6)}"

    return {
        "append": lambda: (dice.choice(STREAMS), some_events(), dice.choice([None, None, *range(6)])),
        "placed": lambda: (dice.choice(STREAMS), some_events()),
        "read": lambda: (dice.choice(STREAMS), dice.randrange(4), dice.randint(1, 9)),
        "read_all": lambda: (dice.randrange(9), dice.randint(1, 9)),
        "add": lambda: (message(),),
        "batch": lambda: (dice.randint(1, 20),),
        "heads": lambda: (dice.randrange(9), dice.randint(1, 9)),
        "remove": lambda: ([message_id() for _ in range(3)],),
        "refuse": lambda: (message_id(),),
        "bury": lambda: (message_id(),),
        "settle_letter": lambda: (dice.choice(["revive", "discard"]), message_id()),
        "backlog": tuple,
        "relay": lambda: (dice.choice(NAMES), dice.choice(["claim", "claim", "release"])),
        "publish": lambda: (list({one.id: one for one in (message() for _ in range(4))}.values()),),
        "peek": lambda: (dice.choice(TOPICS), dice.choice(NAMES), dice.randint(1, 20)),
        "ack": lambda: (dice.choice(TOPICS), dice.choice(NAMES), dice.randrange(5)),
        "subscription": lambda: (
            dice.choice(["subscribe", "claim", "claim", "release"]),
            dice.choice(TOPICS),
            dice.choice(NAMES),
            dice.choice(["o1", "o2"]),
        ),
        "unsubscribe": lambda: (dice.choice(TOPICS), dice.choice(NAMES)),
        "prune": lambda: (dice.choice(TOPICS), dice.choice([None, None, 45.0]), dice.randint(1, 5)),
        "pause": lambda: (dice.choice(PAUSES),),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_any_history_gives_the_answers_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    with time_travel.world(kind, request) as real:
        tables = ["event", "outbox", "relay", "message", "subscription", "dead_letter"]
        for seed in range(HISTORIES):
            dice = random.Random(seed)
            model, store = Side(time_travel.model(), "memory"), Side(real, kind)
            drawn = steps(dice)
            history = f"seed {seed}"
            for _ in range(STEPS):
                name = dice.choice(["append", "add", "publish", "relay", "refuse", *drawn])
                arguments = drawn[name]()
                expected, given = getattr(model, name)(*arguments), getattr(store, name)(*arguments)
                history += f"\n{name}{arguments}"
                assert expected == given, f"{history}\nmodel {expected!r}\nstore {given!r}"
            for table in tables:
                real.backend.execute(f"delete from holdfast_{table}")  # type: ignore[attr-defined]
