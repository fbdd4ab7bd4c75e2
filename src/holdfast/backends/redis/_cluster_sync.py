"""The way to a cluster for blocking code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from holdfast.backends.redis._background import Background
from holdfast.backends.redis._cluster import (
    MAX_HOPS,
    REFRESH_PAUSE,
    Redirect,
    node_at,
    primary_of,
    redirect_of,
    suggests_new_map,
)
from holdfast.backends.redis._lane_sync import Lane
from holdfast.backends.redis.keys import slot_of
from holdfast.backends.redis.outcome import NotSent

__all__ = ["Cluster"]


class Cluster:
    """Brings each request to the node that holds the slot of its key.

    Args:
        client: the user's `RedisCluster`, or None.
        opener: makes the client when the first request needs it; its constructor already connects.
    """

    def __init__(self, client: Any = None, *, opener: Callable[[], Any] | None = None) -> None:
        self._client = client
        self._opener = opener
        # The client's own calls know no deadline of ours.
        self._read_map = Background(self._read_map_now)
        self._outdated = False
        self._next_refresh = 0.0
        self._moved: dict[int, Any] = {}

    def exchange(self, packed: bytes, deadline: float, key: str | bytes) -> Any:
        """Send `packed` to the node that holds the slot of `key` and return the reply."""
        slot = slot_of(key)
        lane, asking, reply = self._lane(slot, deadline), False, None
        for _ in range(MAX_HOPS):
            try:
                reply = lane.exchange(packed, deadline, asking=asking)
            except Exception:
                self._outdated = True
                raise
            to = redirect_of(reply)
            if to is None:
                self._outdated = self._outdated or suggests_new_map(reply)
                break
            lane, asking = self._follow(to, slot, deadline), to.ask
        return reply

    def _lane(self, slot: int, deadline: float) -> Lane:
        try:
            self._freshen(deadline)
            return self._lane_of(self._moved.get(slot) or primary_of(self._client, slot))
        except Exception as error:
            self._outdated = True
            raise NotSent from error

    def _follow(self, to: Redirect, slot: int, deadline: float) -> Lane:
        try:
            if (node := node_at(self._client, to)) is None:
                self._read_map(deadline)
                node = node_at(self._client, to) or primary_of(self._client, slot)
            if not to.ask:
                self._moved[slot], self._outdated = node, True
            return self._lane_of(node)
        except Exception as error:
            raise NotSent from error

    def _lane_of(self, node: Any) -> Lane:
        client = self._client
        connect = getattr(client, "get_redis_connection", None) or client.get_valkey_connection
        return Lane.of(connect(node).connection_pool)

    def _freshen(self, deadline: float) -> None:
        if self._client is None:
            self._read_map(deadline)
        elif self._outdated and time.monotonic() >= self._next_refresh:
            try:
                # An old map is better than none: it gets the other half of the time.
                self._read_map((time.monotonic() + deadline) / 2)
            except Exception:  # noqa: BLE001 - the request itself will tell
                self._next_refresh = time.monotonic() + REFRESH_PAUSE

    def _read_map_now(self) -> None:
        if self._client is None:
            assert self._opener is not None
            self._client = self._opener()
        else:
            self._client.nodes_manager.initialize()
        self._moved, self._outdated = {}, False
        self._next_refresh = time.monotonic() + REFRESH_PAUSE

    def close(self) -> None:
        """Close the client, if it was ever opened."""
        if self._client is not None:
            self._client.close()
