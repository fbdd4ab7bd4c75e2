"""What only Redis can bring: entries that others wrote, entries that are gone, and what a receiver leaves behind."""

import time
from pathlib import Path
from typing import Any

import redis

import holdfast
from holdfast.events import Consumer, DeadLetters, Message, RedisStreamBroker


def test_entries_of_others_stop_nobody(redis_url: str, tmp_path: Path) -> None:
    """Each becomes a dead letter, once, and those behind it are handled."""
    handled: list[object] = []
    with (
        holdfast.connect(redis_url) as backend,
        holdfast.connect(f"sqlite:///{tmp_path}/a.db") as db,
        redis.Redis.from_url(redis_url) as client,
    ):
        broker = RedisStreamBroker(backend)
        broker.publish([Message(id="first", topic="t", payload=1)])
        (stream,) = client.keys("*stream*")
        deep = "[" * 5000 + "]" * 5000
        wrong: list[dict[str, Any]] = [
            {"id": "a\0b"},
            {"id": b"\xff\x00"},
            {"key": "a\0b"},
            {"payload": deep},
            {"payload": "NaN"},
            {"headers": "[]"},
        ]
        for number, fields in enumerate(wrong):
            client.xadd(stream, {"id": number, "key": "", "payload": "1", "headers": "{}", **fields})
        client.xadd(stream, {"something": "else"})
        broker.publish([Message(id="last", topic="t", payload=2)])
        worker = Consumer(db, broker, "c", lambda tx, message: handled.append(message.id), topic="t")
        assert worker.run_once() == 9
        assert handled == ["first", "last"]
        letters = DeadLetters(db).read(source="c")
        assert len(letters) == 7
        assert {letter.attempts for letter in letters} == {0}
        assert "has no field 'id'" in letters[-1].error


def test_entries_that_were_removed_while_they_were_pending_stop_nobody(redis_url: str) -> None:
    """A successor takes over what is left, whatever the version of the server says about the rest."""
    with holdfast.connect(redis_url) as backend, redis.Redis.from_url(redis_url) as client:
        first, second = (RedisStreamBroker(backend, lease=0.05) for _ in range(2))
        first.publish([Message(id=f"{number}", topic="t") for number in range(4)])
        assert len(first.receive("t", "s", 3)) == 3
        (stream,) = client.keys("*stream*")
        client.xtrim(stream, maxlen=2, approximate=False)
        time.sleep(0.1)
        seen: list[str] = []
        for _ in range(4):
            received = second.receive("t", "s", 10)
            seen += [delivery.message.id for delivery in received]
            second.ack("t", "s", received)
        assert seen == ["2", "3"]
        assert client.xpending(stream, "s")["pending"] == 0
