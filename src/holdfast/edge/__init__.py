"""Answer from the edge: an HTTP cache as ASGI middleware."""

from holdfast.edge.cache import CacheServed, EdgeCache
from holdfast.edge.refresher import RefreshFailed
from holdfast.edge.request import default_key
from holdfast.edge.store import MemoryStore, Store

__all__ = ["CacheServed", "EdgeCache", "MemoryStore", "RefreshFailed", "Store", "default_key"]
