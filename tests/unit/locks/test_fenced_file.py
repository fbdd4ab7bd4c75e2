"""A file that stale holders cannot replace, whatever happens to the ones who may."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import ConfigurationError, StaleToken
from holdfast.locks import FencedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.txt"


def test_a_stale_writer_changes_nothing(path: Path) -> None:
    file = FencedFile(path)
    assert file.newest == 0
    for token, content in ((3, b"first"), (3, b"first again"), (7, b"second")):
        file.write(content, token=token)
        assert path.read_bytes() == content
    with pytest.raises(StaleToken, match=r"report\.txt") as caught:
        FencedFile(str(path)).write(b"too late", token=6)
    assert (caught.value.facts["token"], caught.value.facts["newest"]) == (6, 7)
    assert path.read_bytes() == b"second"
    assert FencedFile(path).newest == 7


def test_nothing_but_file_and_fence_is_left(path: Path) -> None:
    file = FencedFile(path)
    file.write(b"x" * 100_000, token=1)
    path.chmod(0o640)
    file.write(b"y", token=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["report.txt", "report.txt.fence"]


@pytest.mark.parametrize("token", [-1, 1.5, True, None, "1", 2**53 + 1])
def test_a_wrong_token_is_named(path: Path, token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token="):
        FencedFile(path).write(b"", token=token)
    assert not list(path.parent.iterdir())


def test_a_missing_folder_is_told(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FencedFile(path.parent / "nowhere" / "file").write(b"", token=1)


def test_a_full_disk_leaves_the_old_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps the older holder out all the same: the newer one has been here."""
    file = FencedFile(path)
    file.write(b"old", token=1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fchmod", lambda *_: full(0))
    with pytest.raises(OSError, match="No space"):
        file.write(b"new", token=2)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 2
    with pytest.raises(StaleToken):
        file.write(b"older", token=1)


WRITER = """
import os, signal, sys
from holdfast.locks import FencedFile
where, path, token = sys.argv[1:]
original = getattr(os, where)
def killed(*arguments):
    original(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, where, killed)
FencedFile(path).write(b"new", token=int(token))
"""


@pytest.mark.parametrize(
    ("where", "content"),
    [("open", b"old"), ("pwrite", b"old"), ("fsync", b"old"), ("fchmod", b"old"), ("close", b"new")],
)
def test_a_writer_killed_anywhere_leaves_one_content_whole(path: Path, where: str, content: bytes) -> None:
    """The old or the new, and afterwards a newer holder writes as if nothing had been."""
    file = FencedFile(path)
    file.write(b"old", token=1)
    died = subprocess.run([sys.executable, "-c", WRITER, where, str(path), "2"], check=False)
    assert died.returncode == -signal.SIGKILL
    assert path.read_bytes() == content
    if file.newest == 2:
        with pytest.raises(StaleToken):
            file.write(b"stale", token=1)
    file.write(b"newest", token=3)
    assert path.read_bytes() == b"newest"
