"""Keep redis-py's own OpenTelemetry metrics right: since version 8 a pool counts connections in use.

It counts one up in `get_connection`, which we go around, and one down in `release`, which we call.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["count_taken"]


def count_taken(pool: Any, *, on_loop: bool, reused: bool) -> None:
    """Count a connection that was taken out of `pool`, if anybody wants to know.

    `reused` is whether the pool has counted it as idle before: a sync pool does that with new ones, too.
    """
    recorder = sys.modules.get("redis.asyncio.observability.recorder" if on_loop else "redis.observability.recorder")
    collector = getattr(recorder, "_async_metrics_collector" if on_loop else "_metrics_collector", None)
    if collector is None:
        return
    from redis.observability.attributes import ConnectionState, get_pool_name

    name = get_pool_name(pool)
    collector.record_connection_count(pool_name=name, connection_state=ConnectionState.USED, counter=1)
    if reused:
        collector.record_connection_count(pool_name=name, connection_state=ConnectionState.IDLE, counter=-1)
