"""What a cluster needs beyond one server: whom to ask, and where an answer sends us instead.

The map from slots to nodes is the client's own (`nodes_manager.slots_cache`), and so are the
connections to each node. It grows old when slots move and when a replica takes over. Then

    MOVED   the slot has a new home: go there now, remember it, and have the map read again
    ASK     the slot is on its way: ask there this once
    no connection, no answer, CLUSTERDOWN: report it, and have the map read again before the next request

All of these replies are given before anything is done, so following them never does anything twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.backends.redis.outcome import error_code

__all__ = [
    "ASKING",
    "MAX_HOPS",
    "REFRESH_PAUSE",
    "Redirect",
    "node_at",
    "primary_of",
    "redirect_of",
    "suggests_new_map",
]

ASKING = b"*1\r\n$6\r\nASKING\r\n"
# A slot moves once at a time, so more hops than this mean that the nodes disagree.
MAX_HOPS = 4
# Seconds between two readings of the map while a node stays away.
REFRESH_PAUSE = 0.5


class Redirect(NamedTuple):
    """Where a node sends us: `MOVED 3999 127.0.0.1:6381`."""

    ask: bool
    host: str
    port: int


def redirect_of(reply: Any) -> Redirect | None:
    """Return where `reply` sends us, or None when it is an answer."""
    if not isinstance(reply, Exception) or (code := error_code(reply)) not in {"MOVED", "ASK"}:
        return None
    host, _, port = str(reply).rpartition(" ")[2].rpartition(":")
    return Redirect(code == "ASK", host.strip("[]"), int(port))


def suggests_new_map(reply: Any) -> bool:
    """Tell whether `reply` means that the map may be old although the node did not say where to go."""
    return isinstance(reply, Exception) and error_code(reply) in {"CLUSTERDOWN", "READONLY", "MASTERDOWN"}


def primary_of(client: Any, slot: int) -> Any:
    """Return the node that holds `slot`, as the map of `client` says."""
    nodes = client.nodes_manager.slots_cache.get(slot)
    if not nodes:
        message = f"no node of the cluster holds slot {slot}"
        raise ConnectionError(message)
    return nodes[0]


def node_at(client: Any, to: Redirect) -> Any | None:
    """Return the node of `client` that `to` names, or None when its map does not know it yet."""
    remap = getattr(client.nodes_manager, "remap_host_port", None)
    host, port = remap(to.host, to.port) if remap else (to.host, to.port)
    return client.nodes_manager.get_node(host=host, port=port)
