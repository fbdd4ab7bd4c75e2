"""One connection of redis.asyncio or valkey.asyncio: getting it ready, and getting rid of it."""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

__all__ = ["connect", "drop", "ready", "send"]


class _Once:
    """Stands in for a connection's `Retry` while we connect: try once, within our own deadline."""

    async def call_with_retry(self, do: Callable[[], Any], *_: Any, **__: Any) -> Any:
        return await do()


def ready(link: Any) -> bool:
    """Tell whether `link` is connected, to this loop, and says nothing while it is idle."""
    if link._writer is None:
        return False
    reader, transport, loop = link._reader, link._writer.transport, asyncio.get_running_loop()
    if reader._loop is not loop or transport.is_closing() or reader.at_eof() or reader._buffer:
        return False
    if link.health_check_interval and loop.time() > link.next_health_check:
        # Idle for longer than the user trusts a connection: a new one is surer than a PING.
        return False
    # A busy loop may not have seen yet what the kernel knows.
    poller = select.poll()
    poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poller.poll(0)


def send(link: Any, packed: bytes) -> None:
    """Give `packed` to the transport.

    Raises:
        ConnectionError: nothing of it was sent.
    """
    transport = link._writer.transport
    transport.write(packed)
    # It was open before this call, and nothing else has run: so the very first send to the kernel failed.
    if transport.is_closing():
        raise ConnectionError("connection closed while sending")


async def connect(link: Any, deadline: float) -> None:
    """Connect and log in, once, within the deadline (a moment on the loop's clock)."""
    await drop(link)
    own = link.retry
    link.retry = _Once()
    try:
        async with asyncio.timeout_at(deadline):
            await link.connect()
    finally:
        link.retry = own


async def drop(link: Any) -> None:
    """Disconnect without waiting for anybody."""
    if link._writer is None:
        return
    if link._reader._loop is not asyncio.get_running_loop():
        # Its loop is gone, and with it all that could close it politely. The socket closes when it is collected.
        link._parser.on_disconnect()
        link._reader = link._writer = None
        return
    # Closing politely would wait until all is sent, which a frozen server never lets happen.
    link._writer.transport.abort()
    await link.disconnect(nowait=True)
