"""Contract suites: what every backend must do for a pattern, written once.

Each is a class of tests without a backend. Subclass it, give it a fixture called `backend`, and every
test runs against it, for blocking and asyncio backends alike:

    class TestLocksOnEtcd(LockContract):
        @pytest.fixture
        def backend(self):
            with EtcdBackend(...) as backend:
                yield backend

The tests are coroutines (pytest-asyncio runs them): `settle` awaits what an asyncio pattern returns and
hands through what a blocking one does; `together` runs tasks for one and threads for the other.
"""

from holdfast.testing.contracts._either import settle, together
from holdfast.testing.contracts.events import EventStoreContract
from holdfast.testing.contracts.idempotency import IdempotencyContract, TransactionalIdempotencyContract
from holdfast.testing.contracts.locks import LockContract
from holdfast.testing.contracts.messages import (
    BrokerContract,
    ConsumerContract,
    OutboxContract,
    RetentionContract,
    TransactionalOutboxContract,
)
from holdfast.testing.contracts.ratelimit import TokenBucketContract

__all__ = [
    "BrokerContract",
    "ConsumerContract",
    "EventStoreContract",
    "IdempotencyContract",
    "LockContract",
    "OutboxContract",
    "RetentionContract",
    "TokenBucketContract",
    "TransactionalIdempotencyContract",
    "TransactionalOutboxContract",
    "settle",
    "together",
]
