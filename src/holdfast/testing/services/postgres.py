"""A private PostgreSQL server.

PostgreSQL refuses to run as root. Then it runs as the user `postgres`, or else `nobody`, who may not be able to reach a
binary inside somebody's virtual environment. Nobody's folders are opened up for that; the binaries are copied instead.
"""

import functools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from holdfast.testing.services import guard
from holdfast.testing.services.find import POSTGRES, Found, ServiceUnavailable, find
from holdfast.testing.services.process import Server, group_of

if TYPE_CHECKING:
    import psycopg

_SUPERUSER = "postgres"

_READY_LINE = 7
"""The line of postmaster.pid that holds the state, counted from 0; line 0 holds the process number.

Source: PostgreSQL, src/include/utils/pidfile.h (LOCK_FILE_LINE_PM_STATUS).
"""


class PostgresServer(Server):
    """A private PostgreSQL with the superuser `postgres`, who needs no password.

    Args:
        durable: wait for the disk at each commit (`fsync`). Off by default: only a crash of the whole machine could
            tell the difference, and `kill` is not one.
        max_connections: as PostgreSQL's setting.
    """

    _polite: ClassVar[int] = signal.SIGINT  # "fast shutdown": ends the sessions instead of waiting for them

    def __init__(self, *, durable: bool = False, max_connections: int = 200) -> None:
        super().__init__()
        self.durable = durable
        self.max_connections = max_connections

    @property
    def url(self) -> str:
        """The superuser's address of the database `postgres`, for psycopg and asyncpg."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """Return the superuser's address of a database."""
        return f"postgresql://{_SUPERUSER}@{self.host}:{self.port}/{name}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its address. Needs the extra `postgres`."""
        create_database(self.url, name)
        return self.database_url(name)

    def _user(self) -> str | None:
        return _unprivileged_user()

    def _prepare(self) -> None:
        options = [
            "--username",
            _SUPERUSER,
            "--auth",
            "trust",
            "--no-sync",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        command = [str(_binaries() / "initdb"), "--pgdata", str(self.data), *options]
        done = _run_as(self._user(), command, cwd=self.data)
        if done.returncode != 0:
            raise ServiceUnavailable(f"initdb failed: {done.stdout}")

    def _command(self, port: int) -> list[str]:
        switch = "on" if self.durable else "off"
        settings = {
            "port": str(port),
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "fsync": switch,
            "full_page_writes": switch,
            # In a file of the data folder: what lies in /dev/shm would stay there after a kill.
            "dynamic_shared_memory_type": "mmap",
        }
        flat = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_binaries() / "postgres"), "-D", str(self.data), *flat]

    def _answers(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > _READY_LINE and lines[0] == str(self.pid) and lines[_READY_LINE].strip() == "ready"


# -- Databases -------------------------------------------------------------------------------------------------------


def create_database(url: str, name: str) -> None:
    """Create an empty database on the server at `url`, replacing one of the same name."""
    drop_database(url, name)
    with _connect(url) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())


def drop_database(url: str, name: str) -> None:
    """Drop a database, ending the sessions that use it."""
    with _connect(url) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def empty_database(url: str) -> None:
    """Make the database at `url` as good as new: no other session, only an empty schema `public`. Takes 10 ms."""
    with _connect(url) as connection:
        connection.execute(_END_OTHER_SESSIONS)
        connection.execute(_DROP_SCHEMAS)


_END_OTHER_SESSIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

_DROP_SCHEMAS = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL client_min_messages = warning;
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    GRANT ALL ON SCHEMA public TO public;
END $$
"""


def _connect(url: str) -> "psycopg.Connection":
    try:
        import psycopg
    except ImportError as missing:
        raise ServiceUnavailable("making databases needs psycopg: pip install 'holdfast[postgres]'") from missing
    return psycopg.connect(url, autocommit=True)


# -- Whom to run as, and from where ----------------------------------------------------------------------------------


@functools.cache
def _unprivileged_user() -> str | None:
    """Return the user to run the server as: None, which is the current one, unless that is root."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    raise ServiceUnavailable("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _run_as(user: str | None, command: list[str], *, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=user,
        group=None if user is None else group_of(user),
        extra_groups=None if user is None else [],
    )


@functools.cache
def _binaries() -> Path:
    """Return a folder whose programs the server's user can run."""
    found = find(POSTGRES)
    if _can_run(found.folder / "postgres"):
        return found.folder
    if found.package is None:
        raise ServiceUnavailable(f"user {_unprivileged_user()} cannot run the programs in {found.folder}")
    return _copy(found, found.package)


def _can_run(program: Path) -> bool:
    try:
        return _run_as(_unprivileged_user(), [str(program), "--version"], cwd=Path("/")).returncode == 0
    except OSError:
        return False


def _copy(found: Found, package: Path) -> Path:
    """Copy the installation that a package carries, with the libraries beside it, to where everybody can read."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-postgresql-"))
    folder.chmod(0o755)
    guard.watch_folder(folder)
    installation = found.folder.parent.relative_to(package)
    shutil.copytree(package / installation, folder / package.name / installation, symlinks=True)
    # Wheels keep bundled libraries in NAME.libs; the programs look for them along a relative path (RPATH).
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / package.name / installation / "bin"
