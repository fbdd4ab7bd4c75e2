"""What a broker is to holdfast: three methods, blocking or awaitable.

    class NatsBroker:
        async def publish(self, messages): ...
        async def receive(self, topic, name, limit): ...
        async def ack(self, topic, name, deliveries): ...

A relay needs `publish` only, a consumer the other two. Their colour must be that of the relay's or
consumer's own client. If there is a fourth, `leave(topic, name)`, a consumer that ends calls it, so that
the broker can let another receive at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any, Generic, Protocol

from holdfast import checks
from holdfast.drivers import AsyncDriver
from holdfast.errors import ConfigurationError
from holdfast.events.message import Delivery, Message
from holdfast.operations import C, Pattern

__all__ = ["Broker", "OwnBroker", "Publisher", "check_colour"]


class Publisher(Protocol):
    """Takes messages."""

    def publish(self, messages: Sequence[Message]) -> Awaitable[None] | None:
        """Publish `messages` in this order, and stop at the first that fails.

        Returning means that the broker has all of them safely. A broker may take a message more than
        once; it hands it out with the same id.

        Raises:
            BackendError, OSError: the broker was not reached: everything is tried again later.
            MessageRefused: one of them can never be published: the relay finds out which.
        """
        ...


class Broker(Publisher, Protocol):
    """Takes messages and hands them out again until they are acknowledged."""

    def receive(self, topic: str, name: str, limit: int) -> Awaitable[Sequence[Delivery]] | Sequence[Delivery]:
        """Return up to `limit` messages of `topic` for the subscription `name`; at once when there are none.

        A new subscription begins with the oldest message that the broker still has.
        """
        ...

    def ack(self, topic: str, name: str, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """Note that these are dealt with, and with them all that were received before them."""
        ...


class OwnBroker(Pattern[C], Generic[C]):
    """The base of the brokers that come with holdfast: their operations are a `Broker`'s, in their client's colour.

    Named in annotations beside the protocols because not every type checker sees that an `@operation`
    is a method.
    """


def check_colour(driver: Any, broker: Any, *methods: str) -> None:
    """Refuse a broker whose methods do not have the colour of `driver`, or that lacks one."""
    wanted = isinstance(driver, AsyncDriver)
    for name in methods:
        method = getattr(broker, name, None)
        if not callable(method):
            message = f"broker={checks.shown(broker)} is not legal: it has no method {name}()"
            raise ConfigurationError(message, parameter="broker")
        own = getattr(broker, "_driver", None)
        awaitable = isinstance(own, AsyncDriver) if own is not None else inspect.iscoroutinefunction(method)
        if awaitable is not wanted:
            kinds = ("blocking", "asyncio")
            message = (
                f"broker={checks.shown(broker)} is {kinds[awaitable]} and the client is {kinds[wanted]}: "
                "give both the same kind of client"
            )
            raise ConfigurationError(message, parameter="broker")
