"""What goes over the wire, and what replies and failures mean."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.backends.redis import Command, Eval, Script
from holdfast.backends.redis.outcome import NotSent, answer, failure
from holdfast.backends.redis.request import _pack
from holdfast.errors import BackendUnavailable, OutcomeUnknown


@pytest.fixture
def script(tmp_path: Path) -> Script:
    (tmp_path / "double.lua").write_text("return 2 * ARGV[1]")
    return Script(str(tmp_path / "module.py"), "double.lua")


@pytest.fixture(params=["hiredis", "python"])
def packer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr("holdfast.backends.redis.request._packer", lambda: _pack)


def test_a_script_is_called_by_its_sha_first(packer: None, script: Script) -> None:
    request = Eval(script, ["k"], [2, 0.1, "ü", b"\xff"], int)
    tail = b"$1\r\n1\r\n$1\r\nk\r\n$1\r\n2\r\n$3\r\n0.1\r\n$2\r\n\xc3\xbc\r\n$1\r\n\xff\r\n"
    assert script.sha1 == hashlib.sha1(script.text.encode()).hexdigest()
    assert request.packed() == b"*8\r\n$7\r\nEVALSHA\r\n$40\r\n" + script.sha1.encode() + b"\r\n" + tail
    assert request.packed_with_text() == b"*8\r\n$4\r\nEVAL\r\n$18\r\nreturn 2 * ARGV[1]\r\n" + tail


def test_a_command_is_packed_as_it_is() -> None:
    assert Command(["SET", "k", b"v"], writes=True).packed() == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"


@pytest.mark.parametrize("value", [None, True, ["x"], {"x": 1}])
def test_what_redis_has_no_spelling_for_is_refused(packer: None, value: object) -> None:
    with pytest.raises(TypeError, match=r"str, .*float"):
        Command(["SET", "k", value], writes=True).packed()  # type: ignore[list-item]


@pytest.mark.parametrize(
    "value", ["", "é", "\U0001f600", b"\x00\xff", 0, -5, 2**70, 0.1, 1e22, -0.0, 1e-7, float("inf")]
)
def test_both_packers_write_the_same(packer: None, value: object) -> None:
    assert Command([value], writes=True).packed() == _pack((value,))  # type: ignore[list-item, arg-type]


def test_the_key_that_decides_the_node() -> None:
    assert Command(["GET", "k"], writes=False).key == "k"
    assert Command(["XREAD", "STREAMS", "s", 0], writes=False, key="s").key == "s"
    assert Command(["PING"], writes=False).key == ""


def test_reprs_show_no_arguments(script: Script) -> None:
    assert repr(Eval(script, ["k"], ["secret"], int)) == "Eval(double, ['k'])"
    assert repr(Command(["SET", "k", "secret"], writes=True)) == "Command(set)"


class ResponseError(Exception):
    """Named like the class of redis-py, which is all that counts."""


class ReadOnlyError(ResponseError):
    pass


class BusyLoadingError(ConnectionError):
    pass


@pytest.mark.parametrize(
    "reply",
    [
        ReadOnlyError("You can't write against a read only replica."),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to"),
        ResponseError("BUSY Redis is busy running a script."),
        ResponseError("CLUSTERDOWN Hash slot not served"),
        ResponseError("OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:3."),
        ResponseError("Error running script (call to f_1f): @user_script:1: @user_script: 1: -OOM command not allowed"),
        ResponseError("NOPERM this user has no permissions to run the 'evalsha' command"),
        ResponseError("NOAUTH Authentication required."),
    ],
    ids=str,
)
def test_a_refusal_was_not_applied(script: Script, reply: Exception) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        answer("place", Eval(script, ["k"], [], int), reply)
    assert (caught.value.backend, caught.value.operation) == ("place", "double")
    assert caught.value.__cause__ is reply


@pytest.mark.parametrize(
    "reply",
    [
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("Error running script (call to f_1f): @user_script:1: attempt to index a nil value"),
        # It may have written before it came to the forbidden command.
        ResponseError("NOPERM this user has no permissions to run the 'set' command script: 1f, on @user_script:3."),
    ],
    ids=str,
)
def test_a_bug_passes_as_it_is_with_a_note(script: Script, reply: Exception) -> None:
    with pytest.raises(ResponseError) as caught:
        answer("place", Eval(script, ["k"], [], int), reply)
    assert caught.value is reply
    assert caught.value.__notes__ == ["from place for Eval(double, ['k'])"]


def not_sent(cause: Exception) -> NotSent:
    error = NotSent()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "writes", "expected"),
    [
        (TimeoutError("no answer"), True, OutcomeUnknown),
        (ConnectionResetError("reset"), True, OutcomeUnknown),
        (TimeoutError("no answer"), False, BackendUnavailable),
        (not_sent(ConnectionRefusedError("refused")), True, BackendUnavailable),
        (BusyLoadingError("Redis is loading the dataset in memory"), True, BackendUnavailable),
        (ConnectionError("max number of clients reached"), True, BackendUnavailable),
    ],
)
def test_a_failure_says_whether_it_was_applied(error: Exception, writes: bool, expected: type[Exception]) -> None:  # noqa: FBT001
    raised = failure("place", Command(["SET", "k", "v"], writes=writes), error)
    assert type(raised) is expected
    assert ("not applied" in str(raised)) == (expected is BackendUnavailable)


def test_a_cause_that_tells_a_password_is_not_chained() -> None:
    loud = ConnectionError("No master found: Connection(password=hunter2)")
    loud.__context__ = TimeoutError()
    raised = failure("place", Command(["GET", "k"], writes=False), not_sent(loud), ["hunter2"])
    assert "password=***" in str(raised)
    assert raised.__cause__ is None
    assert failure("place", Command(["GET", "k"], writes=False), not_sent(loud), ["other"]).__cause__ is loud


def test_importing_the_backend_imports_no_driver() -> None:
    check = "import sys, holdfast.backends.redis; print(*{'redis', 'valkey', 'hiredis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("scheme", ["redis", "valkey", "redis+cluster", "rediss"])
@pytest.mark.parametrize("opener", ["connect", "connect_async"])
def test_a_missing_driver_names_the_line_that_installs_it(scheme: str, opener: str) -> None:
    check = (
        "import sys; sys.modules |= {name + part: None for name in ('redis', 'valkey') for part in ('', '.asyncio')}\n"
        "import holdfast.backends, holdfast.errors\n"
        f"try: holdfast.backends.{opener}('{scheme}://h')\n"
        "except holdfast.errors.MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert 'pip install "holdfast[redis]"' in done.stdout
