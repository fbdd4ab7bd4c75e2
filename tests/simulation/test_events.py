"""What events do in the simulator comes from its seed, and from nothing else."""

import os
import subprocess
import sys

from holdfast.events import Event, EventStore, MemoryBroker, Message
from holdfast.operations import Steps
from holdfast.testing.explore import replay
from holdfast.testing.faults import ROUGH
from holdfast.testing.simulator import Process, Simulator


def recorded_and_published(simulator: Simulator) -> None:
    def writer(process: Process) -> Steps[None]:
        store = EventStore(process.backend)
        broker = MemoryBroker(process.backend, retention=0.01)
        for number in range(50):
            yield from store.append(process.name, [Event("happened")], expected_version=number)  # type: ignore[misc]
            yield from broker.publish([Message(id=f"{number}", topic=topic) for topic in "abcdefgh"])  # type: ignore[misc]

    for name in ("ann", "bob"):
        simulator.start(name, writer)
    simulator.run(until=60)


def test_one_seed_is_one_run() -> None:
    assert _trace() == _trace()


def test_one_seed_is_one_run_in_every_process() -> None:
    """Sets of str have another order in each process."""
    traces = [
        subprocess.run(
            [sys.executable, __file__], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert traces[0] == traces[1] != b""


def _trace() -> list[str]:
    return replay(recorded_and_published, 7, faults=ROUGH).trace


if __name__ == "__main__":
    print("\n".join(_trace()))
