"""Events keep their contract: the store and the outbox on three backends, consumers where there are transactions."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.backends import Backend
from holdfast.events import MemoryBroker, RedisStreamBroker, SqlBroker
from holdfast.testing.contracts import (
    BrokerContract,
    ConsumerContract,
    EventStoreContract,
    OutboxContract,
    RetentionContract,
    TransactionalOutboxContract,
)

with_model = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)
databases = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)

BROKERS = {"memory": MemoryBroker, "sqlite": SqlBroker, "postgres": SqlBroker, "redis": RedisStreamBroker}


@with_model
class TestEventStore(EventStoreContract):
    """Run the shipped suite."""


@with_model
class TestOutbox(OutboxContract):
    """Run the shipped suite."""


@databases
class TestTransactionalOutbox(TransactionalOutboxContract):
    """Run the shipped suite."""


@databases
class TestConsumer(ConsumerContract):
    """Run the shipped suite."""


@with_model
class TestRetention(RetentionContract):
    """Run the shipped suite on what keeps messages by age."""

    @pytest.fixture
    def broker(self, backend: Backend[Any]) -> Callable[..., Any]:
        return lambda **options: BROKERS[backend.dialect](backend, **options)


class TestBroker(BrokerContract):
    """Run the shipped suite on all backends."""

    @pytest.fixture
    def broker(self, backend: Backend[Any]) -> Callable[..., Any]:
        return lambda lease=30.0: BROKERS[backend.dialect](backend, lease=lease)
