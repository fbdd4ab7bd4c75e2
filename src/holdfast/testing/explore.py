"""Try a scenario with many seeds, and run one seed again.

python -m holdfast.testing.explore tests/simulation/test_lock.py:fenced --seed 1234
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from holdfast.testing.faults import ROUGH, Faults
from holdfast.testing.simulator import Simulator

__all__ = ["Scenario", "SimulationFailed", "explore", "replay"]

Scenario = Callable[[Simulator], None]
LAST_LINES = 40


class SimulationFailed(AssertionError):
    """A scenario failed; `seed` runs it again, event by event."""

    def __init__(self, message: str, *, seed: int) -> None:
        super().__init__(message)
        self.seed = seed


def explore(scenario: Scenario, *, seeds: Iterable[int], faults: Faults = ROUGH) -> None:
    """Run `scenario` once per seed, each in a new world.

    Raises:
        SimulationFailed: with the seed, the end of the trace, and how to run it again. Any other exception of
            the scenario goes through, with these in a note.
    """
    for seed in seeds:
        replay(scenario, seed, faults=faults)


def replay(scenario: Scenario, seed: int, *, faults: Faults = ROUGH) -> Simulator:
    """Run `scenario` with one seed and return its world, for its trace."""
    simulator = Simulator(seed, faults=faults)
    try:
        scenario(simulator)
    except AssertionError as error:
        raise SimulationFailed(f"{error}\n\n{_report(scenario, simulator)}", seed=seed) from error
    except Exception as error:
        error.add_note(_report(scenario, simulator))
        raise
    return simulator


def _report(scenario: Scenario, simulator: Simulator) -> str:
    lines = "\n".join(simulator.trace[-LAST_LINES:])
    again = f"Seed {simulator.seed}; again with:\n  {_again(scenario, simulator)}"
    return f"The last of {len(simulator.trace)} events:\n{lines}\n\n{again}"


def _again(scenario: Scenario, simulator: Simulator) -> str:
    code = getattr(scenario, "__code__", None)
    if code is None or simulator.faults != ROUGH:
        # No file and name to give to the command line, or other faults than it knows.
        name = getattr(scenario, "__qualname__", repr(scenario))
        return f"replay({name}, {simulator.seed}, faults={simulator.faults!r})"
    place = Path(code.co_filename)
    if place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return f"python -m holdfast.testing.explore {place}:{scenario.__name__} --seed {simulator.seed}"


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
            print("\n".join(replay(scenario, options.seed).trace))
        else:
            explore(scenario, seeds=range(options.first, options.first + options.seeds))
    except SimulationFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"{options.scenario}: no failure", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
