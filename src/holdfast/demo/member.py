"""What each process of the demo runs: `python -m holdfast.demo.member ROLE SETTINGS [PORT [NAME]]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.demo.settings import Settings

__all__ = ["main"]


def provider(settings: Settings, port: str) -> None:
    """The payment provider."""
    from holdfast.demo.provider import create_app

    _serve(create_app(settings), int(port))


def worker(settings: Settings, port: str, name: str) -> None:
    """One worker of the service."""
    from holdfast.demo.service import create_app

    _serve(create_app(settings, name), int(port))


def relay(settings: Settings) -> None:
    """What moves outbox messages to the broker."""
    from holdfast.demo.publishing import run_relay

    asyncio.run(_until_terminated(lambda: run_relay(settings)))


def consumer(settings: Settings) -> None:
    """What books the messages."""
    from holdfast.demo.books import run_consumer

    asyncio.run(_until_terminated(lambda: run_consumer(settings)))


def _serve(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)


async def _until_terminated(work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


ROLES: dict[str, Callable[..., None]] = {
    "provider": provider,
    "worker": worker,
    "relay": relay,
    "consumer": consumer,
}


def main() -> None:
    """Play the role that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us in order
    role, settings_file, *arguments = sys.argv[1:]
    ROLES[role](Settings.load(settings_file), *arguments)


if __name__ == "__main__":
    main()
