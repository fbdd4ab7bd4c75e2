"""Say what the cache did, in the Cache-Status field (RFC 9211)."""

from __future__ import annotations

import math

from holdfast.edge._asgi import Message

__all__ = ["forwarded", "hit", "marked"]

_NAME = b"holdfast"


def hit(ttl: float) -> bytes:
    """Return the value for a response from the store; `ttl` seconds left, negative when stale."""
    return b"%b; hit; ttl=%d" % (_NAME, math.floor(ttl))


def forwarded(reason: str, *, stored: bool = False, collapsed: bool = False) -> bytes:
    """Return the value for a request that went to the origin; `reason` as in RFC 9211, 2.2."""
    value = b"%b; fwd=%b" % (_NAME, reason.encode())
    # RFC 9211, 2.5 and 2.6: stored, and collapsed with another request.
    return value + (b"; stored" if stored else b"") + (b"; collapsed" if collapsed else b"")


def marked(message: Message, value: bytes) -> Message:
    """Return a response start with a Cache-Status line more; other caches' lines stay before it."""
    return {**message, "headers": [*message.get("headers", ()), (b"cache-status", value)]}
