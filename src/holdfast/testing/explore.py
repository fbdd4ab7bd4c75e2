"""Try a scenario with many seeds, and run one seed again.

python -m holdfast.testing.explore tests/simulation/test_lock.py:fenced --seed 1234
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from holdfast.testing.faults import ROUGH, Faults
from holdfast.testing.simulator import Simulator

__all__ = ["Scenario", "SimulationFailed", "explore", "replay"]

Scenario = Callable[[Simulator], None]
LAST_LINES = 40


class SimulationFailed(AssertionError):
    """A scenario failed: `seed` runs it again, and `trace` has every event of the run."""

    def __init__(self, message: str, *, seed: int, trace: Sequence[str]) -> None:
        super().__init__(message)
        self.seed = seed
        self.trace = trace


def explore(scenario: Scenario, *, seeds: Iterable[int], faults: Faults = ROUGH) -> None:
    """Run `scenario` once per seed, each in a new world.

    Raises:
        SimulationFailed: with the seed, the end of the trace, and how to run it again: a command for a function
            of a module, else a call of `replay`. Any other exception of the scenario goes through, with these in
            a note.
    """
    for seed in seeds:
        replay(scenario, seed, faults=faults)


def replay(scenario: Scenario, seed: int, *, faults: Faults = ROUGH) -> Simulator:
    """Run `scenario` with one seed and return its world, for its trace."""
    simulator = Simulator(seed, faults=faults)
    _play(scenario, simulator)
    return simulator


def _play(scenario: Scenario, simulator: Simulator) -> None:
    try:
        scenario(simulator)
    except AssertionError as error:
        message = f"{error}\n\n{_report(scenario, simulator)}"
        raise SimulationFailed(message, seed=simulator.seed, trace=simulator.trace) from error
    except Exception as error:
        error.add_note(_report(scenario, simulator))
        raise


def _report(scenario: Scenario, simulator: Simulator) -> str:
    lines = "\n".join(simulator.trace[-LAST_LINES:])
    again = f"Seed {simulator.seed}; again with:\n  {_again(scenario, simulator)}"
    return f"The last of {len(simulator.trace)} events:\n{lines}\n\n{again}"


def _again(scenario: Scenario, simulator: Simulator) -> str:
    target = _target(scenario)
    if target is not None and simulator.faults == ROUGH:
        return f"python -m holdfast.testing.explore {shlex.quote(target)} --seed {simulator.seed}"
    # The command line does not find it, or does not know these faults.
    name = getattr(scenario, "__qualname__", repr(scenario))
    faults = "" if simulator.faults == ROUGH else f", faults={simulator.faults!r}"
    return f"replay({name}, {simulator.seed}{faults})"


def _target(scenario: Scenario) -> str | None:
    """Return what the command line calls `scenario`: None for closures, methods and whatever else is in no module."""
    module = sys.modules.get(getattr(scenario, "__module__", ""))
    name = getattr(scenario, "__name__", "")
    file = getattr(module, "__file__", None) or ""
    if not file.endswith(".py") or getattr(module, name, None) is not scenario:
        return None
    place = Path(file)
    if place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return f"{place}:{name}"


def _load(target: str) -> Scenario:
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location("scenario", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["scenario"] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    scenario: Scenario = getattr(module, name)
    return scenario


def _show(scenario: Scenario, seed: int) -> None:
    simulator = Simulator(seed, faults=ROUGH)
    try:
        _play(scenario, simulator)
    finally:  # a run that fails is the one to look at
        print("\n".join(simulator.trace))


def main(arguments: list[str] | None = None) -> int:
    """Run one seed and print its trace, or look through a range of seeds."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.explore", description=main.__doc__)
    parser.add_argument("scenario", help="path/to/file.py:function or package.module:function")
    parser.add_argument("--seed", type=int, help="run this one and print its trace")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to try without --seed (%(default)s)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them (%(default)s)")
    options = parser.parse_args(arguments)
    scenario = _load(options.scenario)
    try:
        if options.seed is not None:
            _show(scenario, options.seed)
        else:
            explore(scenario, seeds=range(options.first, options.first + options.seeds))
    except SimulationFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"{options.scenario}: no failure", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
