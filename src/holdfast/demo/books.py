"""The ledger of events, the balances made from it, and what the audit reads of both."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

from holdfast.backends import AsyncBackend, connect_async
from holdfast.demo.publishing import TOPIC, broker_of
from holdfast.demo.settings import Settings
from holdfast.events import Consumer, Event, EventStore, Message, Outbox, Position

__all__ = ["BooksReader", "balances_of", "record_payment", "recorded_payment", "run_consumer"]

SUBSCRIPTION = "balances"
# Nothing moves for so long only when nothing will: a restart and a lease take less.
QUIET_SECONDS = 5.0
# What is delivered a second time comes when the lease of a killed consumer or relay is over.
LATE_SECONDS = 1.5
_TABLE = "create table if not exists demo_balance (account varchar(255) primary key, cents bigint not null)"
_BOOK = """
insert into demo_balance (account, cents) values (:account, :cents)
on conflict (account) do update set cents = demo_balance.cents + excluded.cents
"""


async def recorded_payment(db: AsyncBackend, order: str) -> bool:
    """Whether the order's payment is in the event store."""
    return bool(await EventStore(db).read(f"order-{order}", limit=1))


async def record_payment(tx: AsyncBackend, charge: dict[str, Any], *, outbox: bool) -> bool:
    """Write the payment's event and message in the open transaction; False if they are there already."""
    if await recorded_payment(tx, charge["order"]):
        return False
    event = Event("payment.received", charge)
    await EventStore(tx).append(f"order-{charge['order']}", [event], expected_version=0)
    if outbox:
        await Outbox(tx).add(TOPIC, charge, key=charge["account"], message_id=event.id)
    return True


async def balances_of(db: AsyncBackend) -> dict[str, int]:
    """Account -> cents, as the consumer keeps them."""
    return {str(account): int(cents) for account, cents in await db.execute("select account, cents from demo_balance")}


async def book(tx: AsyncBackend, message: Message) -> None:
    """Add one payment to its account: the consumer's handler."""
    charge = message.payload
    await tx.execute(_BOOK, {"account": charge["account"], "cents": charge["amount_cents"]})


async def run_consumer(settings: Settings) -> None:
    """Book messages until the process is ended."""
    broker = broker_of(settings, stalls="consumer")
    async with connect_async(settings.addresses.database) as db:
        if settings.uses("dedup"):
            await Consumer(db, broker, SUBSCRIPTION, book, topic=TOPIC, poll_interval=0.05).run()
        else:
            await _book_whatever_comes(db, broker)


async def _book_whatever_comes(db: AsyncBackend, broker: Any) -> None:
    # What is written before somebody asks what a redelivery does.
    while True:
        deliveries = await broker.receive(TOPIC, SUBSCRIPTION, 100)
        for delivery in deliveries:
            async with db.transaction() as tx:
                await book(tx, delivery.message)
        await broker.ack(TOPIC, SUBSCRIPTION, deliveries)
        await asyncio.sleep(0.05)


class BooksReader:
    """What the parent process reads: the backlog while it runs, and the books at the end."""

    def __init__(self, settings: Settings) -> None:
        self._db: AsyncBackend = connect_async(settings.addresses.database)

    async def __aenter__(self) -> Self:
        await self._db.execute(_TABLE)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._db.aclose()

    async def backlog(self) -> int:
        """Messages that wait in the outbox."""
        return int((await Outbox(self._db).backlog()).messages)

    async def balances(self) -> dict[str, int]:
        """Account -> cents."""
        return await balances_of(self._db)

    async def events(self) -> list[dict[str, Any]]:
        """All recorded payments."""
        store, payments = EventStore(self._db), []
        after: Position | None = Position.START
        while after and (events := await store.read_all(after=after)):
            payments += [dict(event.data) for event in events]
            after = events[-1].position
        return payments

    async def settle(self, seconds: float) -> None:
        """Wait until the balances have caught up, or nothing has moved for a while."""
        deadline = time.monotonic() + seconds
        due = sum(event["amount_cents"] for event in await self.events())
        last, moved = -1, time.monotonic()
        while time.monotonic() < min(deadline, moved + QUIET_SECONDS):
            booked = sum((await self.balances()).values())
            if booked == due and await self.backlog() == 0:
                await asyncio.sleep(LATE_SECONDS)
                return
            if booked != last:
                last, moved = booked, time.monotonic()
            await asyncio.sleep(0.1)
