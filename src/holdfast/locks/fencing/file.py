"""A file that only the newest holder of a lock can replace."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from holdfast.locks.fencing._token import legal_token, stale

__all__ = ["FencedFile"]


class FencedFile:
    """A file whose content is replaced as a whole, unless a greater token has been here.

        FencedFile("/srv/report.pdf").write(pdf, token=lease.token)

    The greatest token lies beside the file in `NAME.fence`, which is also what writers lock (`flock`). It is
    raised, and on the disk, before the content is replaced: whoever is killed in between leaves the old content
    and a fence that keeps older holders out. Readers see the old content or the new, never a part.

    Not for file systems whose `flock` knows only one machine (NFS before version 4 without its lock manager).

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._fence = self.path.with_name(f"{self.path.name}.fence")

    def write(self, data: bytes, *, token: int) -> None:
        """Replace the content by `data`.

        Raises:
            StaleToken: a newer holder has been here; nothing was changed.
            ConfigurationError: `token` is no whole number from 0 to 2^53.
            OSError: the folder is missing, read-only or full; the content is as it was.
        ImportError: this system has no `flock` (Windows).
        """
        legal_token(token)
        with self._locked() as fence:
            newest = _token(fence)
            if token < newest:
                raise stale(str(self.path), token, newest)
            if token > newest:
                _write_token(fence, token)
            self._replace(data)

    @property
    def newest(self) -> int:
        """The greatest token accepted so far; 0 before the first."""
        try:
            with self._fence.open("rb") as fence:
                return _token(fence.fileno())
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        import fcntl  # not everywhere, and the module is imported with all of `locks`

        fence = os.open(self._fence, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fence, fcntl.LOCK_EX)
            yield fence
        finally:
            os.close(fence)  # and with it the lock

    def _replace(self, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with open(handle, "wb") as temporary:  # noqa: PTH123 - of a handle
                temporary.write(data)
                temporary.flush()
                os.fchmod(temporary.fileno(), self._mode())
                os.fsync(temporary.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _mode(self) -> int:
        # `mkstemp` lets only the owner read; a file that is there keeps its permissions.
        try:
            return self.path.stat().st_mode & 0o777
        except FileNotFoundError:
            return 0o644

    def __repr__(self) -> str:
        return f"<FencedFile {str(self.path)!r}>"


_DIGITS = 20


def _token(fence: int) -> int:
    # Digits and a newline. A shorter text was torn by a power cut while the first token was written.
    text = os.pread(fence, _DIGITS + 1, 0)
    return int(text) if len(text) == _DIGITS + 1 and text.endswith(b"\n") else 0


def _write_token(fence: int, token: int) -> None:
    # Always as long: one block is overwritten in place.
    os.pwrite(fence, b"%020d\n" % token, 0)
    os.fsync(fence)
