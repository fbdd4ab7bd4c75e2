"""The shapes of ASGI that the edge cache uses: plain callables and dicts, so no framework is imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["Application", "HeaderList", "Message", "Receive", "Scope", "Send", "with_header_list"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
HeaderList: TypeAlias = list[tuple[bytes, bytes]]


def with_header_list(message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return a scope or response start whose headers can be read more than once.

    ASGI allows any iterable, so a generator too, and whoever reads that first would leave nothing for the
    client.
    """
    headers = message.get("headers", ())
    if isinstance(headers, (list, tuple)):
        return message
    return {**message, "headers": list(headers)}
