"""The demo's processes: started, killed for real, started again, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from holdfast.errors import HoldfastError

__all__ = ["Fleet", "Member", "NotStarted", "answers_on", "fleet", "free_ports"]

STOP_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as sockets:
        listening = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in listening:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in listening]


class NotStarted(HoldfastError):
    """A process or a server of the demo did not start, so there is nothing to audit."""

    code = "demo-not-started"
    title = "Demo did not start"


class Member:
    """One process of the fleet, under a name that survives its deaths."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.kills: int = 0
        self._arguments = arguments
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it again; call it in the main thread, which it does not outlive."""
        with self._log.open("ab") as log:
            self._process = _spawn([sys.executable, "-m", "holdfast.demo.member", *self._arguments], log)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no cleaning up."""
        if self._process is not None:
            self.kills += 1
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Return when it has ended; it is killed if it has not after so many seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The last line of its log, which holds the error of a process that does not start."""
        lines = self._log.read_text(errors="replace").split("\n") if self._log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class Fleet:
    """All processes of a run."""

    def __init__(self, folder: Path, settings_file: Path) -> None:
        self._folder = folder
        self._settings_file = settings_file
        self.members: dict[str, Member] = {}

    def add(self, name: str, role: str, *arguments: str) -> Member:
        """Start a process that plays `role`."""
        member = Member(name, [role, str(self._settings_file), *arguments], self._folder / f"{name}.log")
        self.members[name] = member
        member.start()
        return member

    @property
    def kills(self) -> int:
        """How often any of them was killed."""
        return sum(member.kills for member in self.members.values())

    def stop(self) -> None:
        """End all, at the same time."""
        deadline = time.monotonic() + STOP_SECONDS
        for member in self.members.values():
            member.terminate()
        for member in self.members.values():
            member.wait(max(0.0, deadline - time.monotonic()))


async def answers_on(port: int, *, seconds: float, member: Member) -> None:
    """Return when `member` listens on `port`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and member.alive:
        with contextlib.suppress(OSError):
            _, connection = await asyncio.open_connection("127.0.0.1", port)
            connection.close()
            return
        await asyncio.sleep(0.05)
    raise NotStarted(f"{member.name} did not start: {member.last_words()}")


@contextlib.contextmanager
def fleet(folder: Path, settings_file: Path) -> Iterator[Fleet]:
    """A fleet that is stopped at the end, whatever happens in between."""
    processes = Fleet(folder, settings_file)
    try:
        yield processes
    finally:
        processes.stop()


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, and no other way to ask for it
    )


def _die_with_parent() -> None:
    # When the demo itself is killed, nothing of it stays (Linux; elsewhere the finally clauses must do). The signal
    # comes when the *thread* that started the child ends: a child started in a thread of a pool dies with the pool.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
