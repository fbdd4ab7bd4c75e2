# ruff: noqa: SLF001 - a node of redis.asyncio keeps its connections in private attributes
"""The way to a cluster for asyncio code: the twin of `_cluster_sync`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holdfast.backends.redis._cluster import (
    MAX_HOPS,
    REFRESH_PAUSE,
    Redirect,
    node_at,
    primary_of,
    redirect_of,
    suggests_new_map,
)
from holdfast.backends.redis._lane_async import Lane
from holdfast.backends.redis.keys import slot_of
from holdfast.backends.redis.outcome import NotSent

__all__ = ["Cluster"]


class _NodePool:
    """The connections of one cluster node, spoken to like a pool."""

    __slots__ = ("node",)

    def __init__(self, node: Any) -> None:
        self.node = node

    def can_get_connection(self) -> bool:
        return bool(self.node._free) or len(self.node._connections) < self.node.max_connections

    def get_available_connection(self) -> Any:
        return self.node.acquire_connection()

    async def release(self, connection: Any) -> None:
        release = getattr(self.node, "release", None)
        if release is None:  # redis-py before 6
            self.node._free.append(connection)
        else:
            release(connection)


class Cluster:
    """Brings each request to the node that holds the slot of its key.

    Args:
        client: the user's `redis.asyncio.RedisCluster`, or None.
        opener: makes the client when the first request needs it, on the running loop.
        sharing: how requests share a connection to a node; see `Lane`.
    """

    def __init__(self, client: Any = None, *, opener: Callable[[], Any] | None = None, **sharing: Any) -> None:
        self._client = client
        self._opener = opener
        self._sharing = sharing
        self._outdated = False
        self._next_refresh = 0.0
        self._moved: dict[int, Any] = {}
        self._lanes: dict[str, Lane] = {}
        self._reading: asyncio.Task[None] | None = None

    async def exchange(
        self, packed: bytes, deadline: float, key: str | bytes, *, finish: bool, alone: bool = False
    ) -> Any:
        """Send `packed` to the node that holds the slot of `key` and return the reply."""
        slot = slot_of(key)
        lane, asking, reply = await self._lane(slot, deadline), False, None
        for _ in range(MAX_HOPS):
            try:
                reply = await lane.exchange(packed, deadline, finish=finish, alone=alone, asking=asking)
            except Exception:
                self._outdated = True
                raise
            to = redirect_of(reply)
            if to is None:
                self._outdated = self._outdated or suggests_new_map(reply)
                break
            lane, asking = await self._follow(to, slot, deadline), to.ask
        return reply

    async def _lane(self, slot: int, deadline: float) -> Lane:
        try:
            await self._freshen(deadline)
            return self._lane_of(self._moved.get(slot) or primary_of(self._client, slot))
        except Exception as error:
            self._outdated = True
            raise NotSent from error

    async def _follow(self, to: Redirect, slot: int, deadline: float) -> Lane:
        try:
            if (node := node_at(self._client, to)) is None:
                await self._read_map(deadline)
                node = node_at(self._client, to) or primary_of(self._client, slot)
            if not to.ask:
                self._moved[slot], self._outdated = node, True
            return self._lane_of(node)
        except Exception as error:
            raise NotSent from error

    def _lane_of(self, node: Any) -> Lane:
        lane = self._lanes.get(node.name)
        if lane is None or lane.pool.node is not node:
            lane = self._lanes[node.name] = Lane(_NodePool(node), **self._sharing)
        return lane

    async def _freshen(self, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._client is None or self._client._initialize:
            await self._read_map(deadline)
        elif self._outdated and now >= self._next_refresh:
            try:
                # An old map is better than none: it gets the other half of the time.
                await self._read_map((now + deadline) / 2)
            except Exception:  # noqa: BLE001 - the request itself will tell
                self._next_refresh = asyncio.get_running_loop().time() + REFRESH_PAUSE

    async def _read_map(self, deadline: float) -> None:
        """Read the map, together with all who ask for it meanwhile, and wait until `deadline`."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_map_now())
            self._reading.add_done_callback(_look_at_error)
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(self._reading)

    async def _read_map_now(self) -> None:
        if self._client is None:
            assert self._opener is not None
            self._client = self._opener()
        if self._client._initialize:
            await self._client.initialize()
        else:
            await self._client.nodes_manager.initialize()
        self._moved, self._outdated = {}, False
        self._next_refresh = asyncio.get_running_loop().time() + REFRESH_PAUSE

    async def aclose(self) -> None:
        """Close the client, if it was ever opened."""
        if self._reading is not None:
            self._reading.cancel()
        if self._client is not None:
            await self._client.aclose()


def _look_at_error(task: asyncio.Task[None]) -> None:
    # Nobody may be waiting any more, and asyncio complains about errors that nobody has seen.
    if not task.cancelled():
        task.exception()
