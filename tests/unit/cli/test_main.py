"""The command line: one line for each mistake, and an exit code that says what it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast import cli
from holdfast.cli import main
from holdfast.errors import ConfigurationError, HoldfastError


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dmo"], "did you mean 'demo'?"),
        (["migrat"], "did you mean 'migrate'?"),
        (["demo", "--without", "rate-limit"], "did you mean 'ratelimit'?"),
        (["demo", "--without", "locks"], "did you mean 'lock'?"),
        (["demo", "--backend", "sqlit"], "did you mean 'sqlite'?"),
    ],
)
def test_a_slip_of_the_fingers_is_recognised(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{complaint}\n")


def test_what_is_near_nothing_is_not_guessed_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--print"], ["migrate", "--dialect", "sqlite"]])
def test_a_missing_url_is_called_missing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("holdfast: URL is missing: give sqlite:///FILE or postgresql://")


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError("wrong"), 2), (HoldfastError("broken"), 3)],
)
def test_the_exit_code_tells_misuse_from_misfortune(
    error: HoldfastError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither is 1, by which a command says what it found."""

    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli.demo, "_run", fail)
    assert main(["demo"]) == code
    assert capsys.readouterr().err == f"holdfast: {error}\n"


def test_output_that_nobody_reads_is_no_fault() -> None:
    """As in `holdfast ... | head -0`: no traceback, and an exit code of its own."""
    command = [sys.executable, "-m", "holdfast", "migrate", "--print", "--dialect", "postgres"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 141
