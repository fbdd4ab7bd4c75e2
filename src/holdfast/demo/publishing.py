"""From the outbox to the broker, in a process of its own; and what teams do without an outbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from holdfast.backends import connect_async
from holdfast.demo.settings import Settings
from holdfast.events import Delivery, Message, Relay, SqlBroker, uuid7

__all__ = ["TOPIC", "DirectPublisher", "broker_of", "run_relay"]

TOPIC = "payments"
STALL_SECONDS = 5.0
FLUSH_SECONDS = 0.25
# Seconds after which the successor of a killed relay or consumer takes over.
LEASE = 1.0


def broker_of(settings: Settings, *, stalls: str = "") -> StallingBroker:
    """The broker of this run, which stalls once when the director asks for it."""
    client = connect_async(settings.addresses.broker)
    if client.dialect == "redis":
        from holdfast.events import RedisStreamBroker

        return StallingBroker(RedisStreamBroker(client, lease=LEASE), settings.folder, stalls)
    return StallingBroker(SqlBroker(client, lease=LEASE), settings.folder, stalls)


class StallPoint:
    """A place where a process stalls when the file `stall-NAME` is there: the worst moment for a kill."""

    def __init__(self, folder: Path, name: str) -> None:
        self._asked = folder / f"stall-{name}"
        self._stalled = folder / f"stalled-{name}"

    async def reached(self) -> None:
        """Stall if the director asked for it, and tell that it does."""
        if self._asked.exists():
            self._stalled.touch()
            await asyncio.sleep(STALL_SECONDS)


class StallingBroker:
    """A broker that may stall: after a relay has published, before a consumer says that it has booked."""

    def __init__(self, broker: Any, folder: Path, name: str) -> None:
        self._broker = broker
        self._stall = StallPoint(folder, name)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, then perhaps stall."""
        await self._broker.publish(messages)
        if messages:
            await self._stall.reached()

    async def receive(self, topic: str, name: str, limit: int) -> Sequence[Delivery]:
        """Receive."""
        deliveries: Sequence[Delivery] = await self._broker.receive(topic, name, limit)
        return deliveries

    async def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> None:
        """Perhaps stall, then acknowledge."""
        if deliveries:
            await self._stall.reached()
            await self._broker.ack(topic, name, deliveries)


async def run_relay(settings: Settings) -> None:
    """Move messages until the process is ended."""
    async with connect_async(settings.addresses.database) as db:
        await Relay(db, broker_of(settings, stalls="relay"), lease=LEASE).run()


class DirectPublisher:
    """Publishing after the commit, from memory, now and then: what an outbox replaces."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self._broker = broker_of(settings)
        self._stall = StallPoint(settings.folder, worker)
        self._waiting: list[Message] = []
        self._flushing: asyncio.Task[None] | None = None

    def soon(self, charge: dict[str, Any]) -> None:
        """Publish this with the next flush, if there will be one."""
        self._waiting.append(Message(id=uuid7(), topic=TOPIC, payload=charge, key=charge["account"]))

    async def __aenter__(self) -> Self:
        self._flushing = asyncio.create_task(self._flush_for_ever())
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._flushing is not None
        self._flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._flushing

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            messages, self._waiting = self._waiting, []
            if messages:
                await self._stall.reached()
            await self._broker.publish(messages)
