"""Make sure that no server outlives the program that started it.

`atexit` is not run when a program is killed, and the kernel's parent-death signal (PR_SET_PDEATHSIG) is sent when the
*thread* that forked ends, which is too early in a program with threads. So a small process watches instead:

    program  ── start ──>  server (own session, own process group)
       └──── pipe ─────>  guard  (own session, so Ctrl-C does not reach it)

The guard is told of every server and folder over the pipe. The pipe closes when the program ends, in whatever way; then
the guard stops the servers, politely first, removes their folders, and ends. A program that ends normally closes the
pipe itself and waits for the guard, so there is one way of cleaning up and it is used every day.

This file is also the guard's own program: it is run alone and imports the standard library only.
"""

import atexit
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_POLITE_SECONDS = 3.0
"""How long a server may take to stop by itself before it is killed."""

_POLL_SECONDS = 0.005


# -- Processes and their children ------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """List the processes below `pid`, nearest first.

    Read from /proc; where there is none (macOS) the list is empty, and servers are signalled by process group only.
    """
    found: list[int] = []
    queue = [pid]
    while queue:
        with contextlib.suppress(OSError):  # it, or a thread of it, ended while we looked
            for children in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
                below = [int(child) for child in children.read_text().split()]
                found += below
                queue += below
    return found


def signal_tree(pid: int, number: int) -> list[int]:
    """Send a signal to `pid` and everything below it; return whom it was sent to.

    PostgreSQL puts each of its children into a process group of its own, so a signal to the group is not enough.
    """
    everyone = [pid, *descendants(pid)]
    for process in everyone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    return everyone


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # The state follows the name, which is in parentheses and may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()


def await_end(pids: list[int], seconds: float) -> bool:
    """Wait until none of the processes is running; return False when the time is up first."""
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end_tree(pid: int, polite: int) -> None:
    """Stop a server and everything below it: by the signal `polite` first, by SIGKILL when that does not help."""
    everyone = signal_tree(pid, signal.SIGCONT)  # a paused process would never see the next signal
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, polite)
    if not await_end(everyone, _POLITE_SECONDS):
        everyone += signal_tree(pid, signal.SIGKILL)
        for process in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        await_end(everyone, _POLITE_SECONDS)


# -- The program's side ----------------------------------------------------------------------------------------------


class _Pipe:
    """The program's end of the pipe to its guard, opened when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def tell(self, line: str) -> None:
        """Send one line to the guard."""
        with self._lock:
            # A forked child inherits this object, but not the duty: it gets a guard of its own.
            if self._guard is None or self._owner != os.getpid():
                self._open()
            stream = self._guard.stdin if self._guard else None
            if stream is not None:
                stream.write(line.encode() + b"\n")
                stream.flush()

    def _open(self) -> None:
        self._owner = os.getpid()
        self._guard = subprocess.Popen(
            # -I and -S: no user configuration, no packages, a start in 15 ms.
            [sys.executable, "-I", "-S", __file__, str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End the guard, and with it all servers."""
        if self._guard is not None and self._guard.stdin is not None and self._owner == os.getpid():
            self._guard.stdin.close()
            self._guard.wait(timeout=30)
            self._guard = None


_pipe = _Pipe()


def watch_folder(folder: Path) -> None:
    """Have a folder removed when this program ends."""
    _pipe.tell(f"+folder {folder}")


def watch_process(pid: int, polite: int) -> None:
    """Have a process and its children stopped when this program ends; `polite` is the signal to try first."""
    _pipe.tell(f"+process {pid} {polite}")


def forget_process(pid: int) -> None:
    """Take back `watch_process`, once the process has ended and its number may be given to another."""
    _pipe.tell(f"-process {pid}")


def forget_folder(folder: Path) -> None:
    """Take back `watch_folder`."""
    _pipe.tell(f"-folder {folder}")


# -- The guard's side ------------------------------------------------------------------------------------------------


class _Guard:
    """What the guard knows: the processes to stop, each with its polite signal, and the folders to remove."""

    def __init__(self) -> None:
        self.processes: dict[int, int] = {}
        self.folders: dict[str, None] = {}

    def learn(self, line: str) -> None:
        """Take in one line from the program."""
        verb, _, rest = line.partition(" ")
        if verb == "+process":
            pid, polite = rest.split()
            self.processes[int(pid)] = int(polite)
        elif verb == "-process":
            self.processes.pop(int(rest), None)
        elif verb == "+folder":
            self.folders[rest] = None
        elif verb == "-folder":
            self.folders.pop(rest, None)

    def clean_up(self) -> None:
        """Stop everything, the last started first, then remove the folders."""
        for pid, polite in reversed(self.processes.items()):
            end_tree(pid, polite)
        for folder in reversed(self.folders):
            shutil.rmtree(folder, ignore_errors=True)


def _receive_lines(parent: int) -> list[str] | None:
    """Wait for lines from the program; return None when it is gone.

    The pipe closes when the program ends, unless a forked child of it still holds the other end. So once a second,
    when nothing is left to read, the guard also looks whether its parent has changed.
    """
    while not select.select([0], [], [], 1.0)[0]:
        if os.getppid() != parent:
            return None
    received = os.read(0, 65536)
    while received and not received.endswith(b"\n"):
        received += os.read(0, 1) or b"\n"
    return received.decode().splitlines() or None


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard = _Guard()
    while (lines := _receive_lines(int(sys.argv[1]))) is not None:
        for line in lines:
            guard.learn(line)
    guard.clean_up()


if __name__ == "__main__":
    _main()
