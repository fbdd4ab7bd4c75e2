"""How the names that users choose become Redis keys, and which slot of a cluster a key is in.

    holdfast:<pattern>:{<part>:<part>...}<suffix>

What is in braces is Redis' *hash tag*: only that decides the slot, so all keys of one operation, which
differ in their suffix only, are on one node of a cluster, and a script may use them together.
"""

from __future__ import annotations

import binascii

__all__ = ["physical_key", "slot_of"]

SLOTS = 16384
# A part may hold anything. These four would end the tag, begin another, or make two tuples of parts equal.
_ESCAPES = str.maketrans({"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"})


def physical_key(pattern: str, *parts: str, suffix: str = "") -> str:
    """Return the key for `parts` within `pattern`; no two different calls give the same key.

    Args:
        pattern: the word that keeps patterns apart, such as `lock`; chosen by us, never by users.
        parts: at least one name chosen by users.
        suffix: tells apart several keys of one operation, such as `:fence`; chosen by us.

    >>> physical_key("lock", "order-123", suffix=":fence")
    'holdfast:lock:{order-123}:fence'
    >>> physical_key("limit", "api", "user:{7}")
    'holdfast:limit:{api:user%3A%7B7%7D}'
    """
    tag = ":".join([_escaped(part) for part in parts]) if len(parts) > 1 else _escaped(parts[0])
    # An empty tag would be no tag: Redis then hashes the whole key, and suffixes would scatter.
    return f"holdfast:{pattern}:{{{tag or '%'}}}{suffix}"


def _escaped(part: str) -> str:
    # isalnum() is a quick scan in C, and most names pass it or the four searches.
    if part.isalnum() or not ("%" in part or ":" in part or "{" in part or "}" in part):
        return part
    return part.translate(_ESCAPES)


def slot_of(key: str | bytes) -> int:
    """Return the cluster slot of `key`, 0 to 16383 (Redis cluster specification, "Hash tags")."""
    name = key.encode() if isinstance(key, str) else key
    start = name.find(b"{") + 1
    if start:
        end = name.find(b"}", start)
        if end > start:
            name = name[start:end]
    return binascii.crc_hqx(name, 0) % SLOTS
