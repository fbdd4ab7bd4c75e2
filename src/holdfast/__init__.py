"""holdfast keeps a service correct when it has more than one instance.

Sixteen patterns in six packages, all with one model: pass your own client, or `holdfast.connect(url)`,
and the client decides whether you block or await.

    from holdfast import Lock, TokenBucketLimiter, circuit_breaker, idempotent_execute, retry

Names are loaded when they are first used, so `import holdfast` costs next to nothing and imports no
driver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.backends import connect, connect_async
    from holdfast.edge import EdgeCache
    from holdfast.errors import HoldfastError
    from holdfast.events import Consumer, Event, EventStore, Outbox, Relay
    from holdfast.idempotency import idempotency_key, idempotent_execute
    from holdfast.locks import FenceGuard, Lease, Lock, RedisLock, locked
    from holdfast.ratelimit import Decision, TokenBucketLimiter
    from holdfast.resilience.bulkhead import bulkhead
    from holdfast.resilience.circuit_breaker import circuit_breaker
    from holdfast.resilience.retry import retry
    from holdfast.resilience.timeout import timeout

__all__ = [
    "Consumer",
    "Decision",
    "EdgeCache",
    "Event",
    "EventStore",
    "FenceGuard",
    "HoldfastError",
    "Lease",
    "Lock",
    "Outbox",
    "RedisLock",
    "Relay",
    "TokenBucketLimiter",
    "bulkhead",
    "circuit_breaker",
    "connect",
    "connect_async",
    "idempotency_key",
    "idempotent_execute",
    "locked",
    "retry",
    "timeout",
]

_ROOMS = {
    "backends": ("connect", "connect_async"),
    "edge": ("EdgeCache",),
    "errors": ("HoldfastError",),
    "events": ("Consumer", "Event", "EventStore", "Outbox", "Relay"),
    "idempotency": ("idempotency_key", "idempotent_execute"),
    "locks": (
        "FenceGuard",
        "Lease",
        "Lock",
        "RedisLock",
        "locked",
    ),
    "ratelimit": ("Decision", "TokenBucketLimiter"),
    "resilience": ("bulkhead", "circuit_breaker", "retry", "timeout"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"holdfast.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
