"""What only Redis can bring: entries that others wrote, entries that are gone, and what a receiver leaves behind."""

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
