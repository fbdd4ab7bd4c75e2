"""Where stored responses live.

`Store` is all that the cache asks for, so a store shared by a fleet can take the place of this one. Its
operations are coroutines for that reason; in memory they never wait, which keeps a look-up, a decision
and the joining of a flight one undivided step of the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from holdfast.edge.entry import Entry, VaryMiss
from holdfast.edge.request import Variant, selecting

__all__ = ["MemoryStore", "Store"]

# A full store gives one key no more than this part of itself before the key's own variants make room.
_LARGEST_SHARE = 1 / 8


class Store(Protocol):
    """A bounded map from (key, selecting request fields) to stored responses.

    No operation raises because the store is out of reach: to a cache that is a miss, not a failure.
    """

    async def get(self, key: str, headers: Mapping[bytes, bytes]) -> Entry | VaryMiss | None:
        """Return the variant of `key` that `headers` select, fresh or not."""
        ...

    async def put(self, key: str, entry: Entry, headers: Mapping[bytes, bytes]) -> None:
        """Store `entry` as the variant of `key` that `headers` select, in place of an older one."""
        ...

    async def delete(self, key: str) -> None:
        """Forget all variants of `key`."""
        ...


class _Variants:
    """The variants of one key, told apart by one set of request fields.

    The set only widens while the key is stored: a response that varies on less than another is kept
    under more values than it needs, which costs a miss now and then and can never mix two variants up.
    """

    __slots__ = ("entries", "vary")

    def __init__(self) -> None:
        self.vary: tuple[bytes, ...] = ()
        self.entries: dict[Variant, Entry] = {}

    def put(self, entry: Entry, headers: Mapping[bytes, bytes], *, limit: int) -> None:
        if not set(entry.vary) <= set(self.vary):
            # Of the variants so far nobody knows the values of the new fields.
            self.vary = tuple(sorted({*self.vary, *entry.vary}))
            self.entries.clear()
        variant = selecting(self.vary, headers)
        self.entries.pop(variant, None)
        if len(self.entries) >= limit:
            self.drop_oldest()
        self.entries[variant] = entry

    def drop_oldest(self) -> None:
        del self.entries[next(iter(self.entries))]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries.values())


class MemoryStore:
    """Keeps responses in this process and drops the keys used longest ago.

    Whoever invents values for a field that a response varies on fills its key, not the store: once there
    is no room left, a key with more than an eighth of it drops its own oldest variants.

    Args:
        max_entries: most responses, variants counted, >= 1.
        max_bytes: most bytes of them all together, >= 1; an estimate that counts bodies, header fields,
            keys and a flat sum per entry.
        max_variants: most variants of one key, >= 1; the oldest makes room.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, max_variants: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_variants = max_variants
        self._keys: OrderedDict[str, _Variants] = OrderedDict()
        self.entries: int = 0
        self.size_bytes: int = 0

    async def get(self, key: str, headers: Mapping[bytes, bytes]) -> Entry | VaryMiss | None:
        """Return the variant of `key` that `headers` select, fresh or not."""
        variants = self._keys.get(key)
        if variants is None:
            return None
        self._keys.move_to_end(key)
        return variants.entries.get(selecting(variants.vary, headers)) or VaryMiss(variants.vary)

    async def put(self, key: str, entry: Entry, headers: Mapping[bytes, bytes]) -> None:
        """Store `entry`; older variants of a large key, then keys used longest ago, make room for it."""
        variants = self._keys.pop(key, None) or _Variants()
        self._count(key, variants, -1)
        variants.put(entry, headers, limit=min(self._max_variants, self._max_entries))
        self._keys[key] = variants
        self._count(key, variants, +1)
        while self.entries > self._max_entries or self.size_bytes > self._max_bytes:
            if self._is_too_large(variants):
                self._count(key, variants, -1)
                variants.drop_oldest()
                self._count(key, variants, +1)
            else:
                self._count(*self._keys.popitem(last=False), -1)

    async def delete(self, key: str) -> None:
        """Forget all variants of `key`."""
        if (variants := self._keys.pop(key, None)) is not None:
            self._count(key, variants, -1)

    def _is_too_large(self, variants: _Variants) -> bool:
        if len(variants.entries) <= 1:
            return False
        share = max(len(variants.entries) / self._max_entries, variants.size_bytes / self._max_bytes)
        return share > _LARGEST_SHARE

    def _count(self, key: str, variants: _Variants, sign: int) -> None:
        self.entries += sign * len(variants.entries)
        self.size_bytes += sign * (variants.size_bytes + (len(key) if variants.entries else 0))
