"""Install a server package of Debian or Ubuntu without letting it start its service.

The packages start a server on the standard port as soon as they are unpacked, unless `policy-rc.d` forbids it. So one
that forbids everything lies in place while apt runs. Test processes that come here at once wait for each other.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_KEPT = Path("/usr/sbin/policy-rc.d.kept-by-holdfast")
_FORBID = "#!/bin/sh\n# Placed by holdfast's tests while they install a package; safe to remove.\nexit 101\n"


def install(package: str, *, until: Callable[[], bool]) -> str | None:
    """Install a package; return None when it is there now, or else why not.

    Args:
        package: the package's name.
        until: tells whether it is there; another process may have installed it while this one waited.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"apt could not install {package}: that needs root on Debian or Ubuntu"
    with _one_at_a_time():
        if until():
            return None
        with _no_service_starts():
            return _install(package)


def _install(package: str) -> str | None:
    failure = _apt("install", "--yes", "--no-install-recommends", package)
    if failure is None:
        return None
    # The package lists of a fresh machine or image are missing or old.
    _apt("update")
    return _apt("install", "--yes", "--no-install-recommends", package)


def _apt(*arguments: str) -> str | None:
    """Run apt-get; return None or the end of what it said."""
    done = subprocess.run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments],  # noqa: S607 - apt-get lies where the system says.
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"apt-get {arguments[0]} failed: {done.stdout.strip()[-500:]}"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"holdfast-apt-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_service_starts() -> Iterator[None]:
    if _POLICY.exists() and _POLICY.read_text(errors="replace") != _FORBID:
        _POLICY.rename(_KEPT)
    try:
        _POLICY.write_text(_FORBID)
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
        if _KEPT.exists():
            _KEPT.rename(_POLICY)
