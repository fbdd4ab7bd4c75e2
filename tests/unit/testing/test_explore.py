"""What a failed simulation tells to run runs it again."""

import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from holdfast.testing.explore import SimulationFailed, explore, replay
from holdfast.testing.simulator import Simulator

SCENARIOS = """
from functools import wraps


def eventful(scenario):
    @wraps(scenario)
    def wrapper(simulator):
        for number in range(60):
            simulator.note("world", f"event {number}")
        scenario(simulator)

    return wrapper


@eventful
def fails(simulator):
    assert simulator.seed != 7, "on the seventh day"


@eventful
def breaks(simulator):
    raise ZeroDivisionError("by a bug")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module whose file has a name that shells do not take as it is; the decorator is in the same file."""
    path = tmp_path / "it's a test.py"
    path.write_text(SCENARIOS)
    spec = importlib.util.spec_from_file_location("scenarios_of_a_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    spec.loader.exec_module(module)
    return module


def told(scenario: Callable[[Simulator], None]) -> str:
    """Return the line that says how to run `scenario` again, after it has failed with seed 7."""
    with pytest.raises((SimulationFailed, ZeroDivisionError)) as caught:
        explore(scenario, seeds=[7])
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    return text.splitlines()[-1].strip()


@pytest.mark.parametrize("name", ["fails", "breaks"])
def test_the_command_fails_in_the_same_way_and_prints_every_event(module: ModuleType, name: str) -> None:
    scenario = getattr(module, name)
    with pytest.raises((SimulationFailed, ZeroDivisionError)) as caught:
        replay(scenario, 7)
    python, *arguments = shlex.split(told(scenario))
    assert python == "python"
    assert arguments[2:] == [f"it's a test.py:{name}", "--seed", "7"]
    again = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert str(caught.value).splitlines()[0] in again.stderr
    events = again.stdout.splitlines()
    assert len(events) > 40, "more than a message shows"
    if isinstance(caught.value, SimulationFailed):
        assert events == list(caught.value.trace)


def bad_day(simulator: Simulator) -> None:
    raise AssertionError(f"a bad day {simulator.seed}")


def make(day: str) -> Callable[[Simulator], None]:
    def bad_day(simulator: Simulator) -> None:
        raise AssertionError(f"{day} {simulator.seed}")

    return bad_day


class Days:
    def bad_day(self, simulator: Simulator) -> None:
        raise AssertionError(f"a bad day {simulator.seed}")

    def __call__(self, simulator: Simulator) -> None:
        self.bad_day(simulator)


def test_only_what_the_command_line_finds_is_told_as_a_command() -> None:
    """A closure, a method or an object is not found in its module, or another function of that name is."""
    assert told(bad_day).endswith("test_explore.py:bad_day --seed 7")
    assert told(make("Monday")) == "replay(make.<locals>.bad_day, 7)"
    assert told(Days().bad_day) == "replay(Days.bad_day, 7)"
    assert told(lambda simulator: Days().bad_day(simulator)).endswith(".<lambda>, 7)")
    assert told(Days()).startswith("replay(<")


def test_a_function_of_no_file_is_told_as_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, whose module is not in a file."""
    monkeypatch.delattr(sys.modules[__name__], "__file__")
    assert told(bad_day) == "replay(bad_day, 7)"
