"""What all private servers share: a port, a folder, a process, and the ways to hurt it.

A server class says which command starts it, how to see that it answers, and which signal stops it politely; everything
else is here. Waiting is done by looking every few milliseconds: Redis is up after 20 ms, PostgreSQL after 600.
"""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from holdfast.testing.services import guard
from holdfast.testing.services.find import ServiceUnavailable

_PORTS = range(12_000, 22_000)
"""Below the range from which systems take ports for outgoing connections (32768 on Linux, 49152 by IANA).

A port from that range could be lost between two starts of a server, even to a client that connects *to itself* while it
tries to reach the stopped server. 22,000 leaves room for the cluster bus of Redis, which takes the port plus 10,000.
"""

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.004
_ATTEMPTS = 20


def free_port() -> int:
    """Choose a port that nothing listens on; it may be taken by another before it is used, so be ready to retry."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until `condition` holds; return False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class _PortTaken(Exception):
    """Starts the next attempt; never shown to callers."""


class Server(ABC):
    """A private server process on a port of its own; stopped when the program ends, however it ends.

    Use it as a context manager, or call `start` and `stop`. After `kill`, `start` brings it back on the same port with
    the files it had, like a real server that was restarted by its init system.
    """

    host: ClassVar[str] = "127.0.0.1"
    _polite: ClassVar[int] = signal.SIGTERM
    """The signal that makes the server stop at once without losing what it has accepted."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        _servers.add(self)

    # What a server class adds.

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, as the usual client libraries take it."""

    @abstractmethod
    def _command(self, port: int) -> list[str]:
        """Return the command that runs the server in the foreground; write its configuration, when it needs one."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether this very process, and not a stranger on its port, is ready for clients."""

    def _prepare(self) -> None:  # noqa: B027 - most servers need nothing here.
        """Fill the new, empty data folder."""

    def _user(self) -> str | None:
        """Return the user to run as; None is the current one."""
        return None

    # What users of a server call.

    @property
    def port(self) -> int:
        """The TCP port on `host`; chosen at the first start and kept from then on."""
        if self._port is None:
            raise RuntimeError(f"{type(self).__name__} has no port before its first start()")
        return self._port

    @property
    def pid(self) -> int:
        """The process number while it is running."""
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where the server keeps its files; made at the first call."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"holdfast-{type(self).__name__.lower()}-"))
            guard.watch_folder(self._folder)
        return self._folder

    @property
    def data(self) -> Path:
        """The data folder below `folder`; `restart(keep_data=False)` empties it."""
        return self.folder / "data"

    @property
    def running(self) -> bool:
        """Whether the process exists; True for a paused one, too."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and return it when it answers.

        Raises:
            ServiceUnavailable: no binary was found, or it ended or was silent for 30 s; the message holds its log.
        """
        if self.running:
            return self
        self._make_data()
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(_PortTaken):
                self._launch(self._port or free_port())
                return self
        raise ServiceUnavailable(f"{type(self).__name__} found its port taken {_ATTEMPTS} times:\n{self.log()}")

    def stop(self) -> None:
        """Stop the server politely (by force when that takes over 10 s) and remove its files."""
        self._end(self._polite)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            guard.forget_folder(self._folder)
            self._folder = None

    def kill(self) -> None:
        """End the server and its children at once (SIGKILL), as a crash of its machine would; its files stay."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Make the server hang (SIGSTOP): connections stay open and new ones are accepted, but nothing is answered."""
        guard.signal_tree(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        guard.signal_tree(self.pid, signal.SIGCONT)

    def restart(self, *, keep_data: bool = True) -> None:
        """Stop the server politely and start it on the same port.

        Args:
            keep_data: start with the files it had. What the server never wrote to a file is lost all the same.
        """
        self._end(self._polite)
        if not keep_data:
            shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def log(self) -> str:
        """Return what the server has written to its output."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"port {self._port}, pid {self.pid}" if self.running else "stopped"
        return f"<{type(self).__name__} {state}>"

    # How it is done.

    def _make_data(self) -> None:
        if self.data.exists():
            return
        self.data.mkdir(mode=0o700)
        if (user := self._user()) is not None:
            shutil.chown(self.folder, user)
            shutil.chown(self.data, user)
        self._prepare()

    def _launch(self, port: int) -> None:
        with (self.folder / "log").open("wb") as log:
            self._process = self._spawn(self._command(port), log.fileno())
        guard.watch_process(self._process.pid, self._polite)
        first, self._port = self._port is None, port
        if eventually(lambda: not self.running or self._answers(), seconds=_START_SECONDS) and self.running:
            return
        self._end(signal.SIGKILL)
        if "in use" in self.log():
            if first:
                self._port = None
            else:
                time.sleep(0.1)  # the port is ours; whoever holds it is about to let it go
            raise _PortTaken
        raise ServiceUnavailable(f"{type(self).__name__} did not start:\n{self.log()}")

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        user = self._user()
        return subprocess.Popen(
            command,
            cwd=self.data,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the program, which then stops its servers in order
            user=user,
            group=None if user is None else group_of(user),
            extra_groups=None if user is None else [],
        )

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        pid = self._process.pid
        everyone = guard.signal_tree(pid, signal.SIGKILL if number == signal.SIGKILL else signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if not self._wait(_STOP_SECONDS):
            everyone += guard.signal_tree(pid, signal.SIGKILL)
            self._wait(_STOP_SECONDS)
        # Children that outlive their parent still hold its files and its shared memory.
        guard.await_end(everyone, _STOP_SECONDS)
        guard.forget_process(pid)
        self._process = None

    def _wait(self, seconds: float) -> bool:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                return True
        return False


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


@atexit.register
def _collect_ended() -> None:
    """Take note of the servers that the guard has stopped, or Python warns that they still run."""
    for server in _servers:
        _ = server.running


def group_of(user: str) -> int:
    """Return a user's own group."""
    import pwd

    return pwd.getpwnam(user).pw_gid
