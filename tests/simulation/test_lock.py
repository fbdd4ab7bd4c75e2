"""The lock under every fault at once: its promise is checked at the resource, not in the lock."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from holdfast.errors import BackendError, StaleToken
from holdfast.locks import FenceGuard, Lease, Lock
from holdfast.operations import Sleep, Steps
from holdfast.testing.explore import SimulationFailed, explore, replay
from holdfast.testing.faults import Faults
from holdfast.testing.simulator import Process, Simulator

WORKERS = 4
ROUNDS = 4
SEEDS = 2000


class Ledger:
    """The resource: remembers every write it accepted, fenced or not."""

    def __init__(self, *, fenced: bool) -> None:
        self.accepted: list[int] = []
        self._guard = FenceGuard("ledger") if fenced else None

    def write(self, token: int) -> None:
        """Accept a write, unless its token is stale and somebody looks."""
        if self._guard is not None:
            self._guard.check(token)
        self.accepted.append(token)

    @property
    def stale_writes(self) -> int:
        """Accepted writes of holders whose successor had written before."""
        return sum(later < max(self.accepted[:place]) for place, later in enumerate(self.accepted) if place)


def contender(process: Process, ledger: Ledger, ttl: float) -> Steps[None]:
    """Take the lock, work a while as an honest holder does, write, give the lock back."""
    lock = Lock(process.backend, "ledger", ttl=ttl)
    for _ in range(ROUNDS):
        try:
            lease = yield from lock.acquire(timeout=8.0)
            if lease is not None:
                yield from holding(process, lease, ledger)
        except StaleToken:
            process.simulator.note(process.name, "is refused by the ledger")
        except BackendError as error:
            process.simulator.note(process.name, f"sees {type(error).__name__}")


def holding(process: Process, lease: Lease[Any], ledger: Ledger) -> Steps[None]:
    """What `with` does: a heartbeat meanwhile, and a release however the block ends."""
    stop = process.backend.background(lease.heartbeat(lambda: None))
    try:
        yield Sleep(process.simulator.random.uniform(0.0, 4.0))
        if lease.held:
            yield Sleep(0.002)  # the write travels: the look above says nothing about its arrival
            ledger.write(lease.token)
    except GeneratorExit:
        raise  # the process has crashed: nobody is left to carry out a release
    except BaseException:
        stop()
        yield from lease.release()
        raise
    stop()
    yield from lease.release()


def contend(simulator: Simulator, *, fenced: bool, ttl: float = 2.0) -> Ledger:
    """Let some workers fight over one lock until all is quiet."""
    ledger = Ledger(fenced=fenced)
    for number in range(WORKERS):
        simulator.start(f"worker-{number}", lambda process: contender(process, ledger, ttl))
    simulator.run(until=120.0)
    return ledger


def fenced(simulator: Simulator) -> None:
    """With fencing no stale write is ever accepted."""
    ledger = contend(simulator, fenced=True)
    assert ledger.stale_writes == 0, f"stale write accepted: {ledger.accepted}"


def unfenced(simulator: Simulator) -> None:
    """Without fencing this cannot be promised: a pause between look and write is enough."""
    ledger = contend(simulator, fenced=False)
    assert ledger.stale_writes == 0, f"stale write accepted: {ledger.accepted}"


def free_in_the_end(simulator: Simulator) -> None:
    """Holders that live on leave the lock free, however they were paused or cancelled."""
    contend(simulator, fenced=True, ttl=100_000.0)
    assert simulator.state.table("locks").get("ledger") is None


def test_no_stale_write_with_fencing() -> None:
    """Two thousand bad days: not one stale write."""
    explore(fenced, seeds=range(SEEDS))


def test_fencing_is_what_prevents_it() -> None:
    """The same days without fencing do have stale writes, so the test above can fail."""
    failed = 0
    for seed in range(SEEDS // 4):
        try:
            replay(unfenced, seed)
        except SimulationFailed:
            failed += 1
    assert failed > 0


def test_the_runs_are_not_empty() -> None:
    """Faults do happen, and work is done nevertheless."""
    worlds = [replay(fenced, seed) for seed in range(50)]
    everything = "\n".join(line for world in worlds for line in world.trace)
    for fault in ("is cancelled", "crashes", "reply is lost", "request is lost", "sees OutcomeUnknown"):
        assert fault in everything
    assert sum("release" in line and line.endswith("-> True") for line in everything.splitlines()) > 100


def test_the_lock_is_free_in_the_end() -> None:
    """Nobody waits for a TTL after a holder that was cancelled or paused, but not killed."""
    explore(free_in_the_end, seeds=range(SEEDS // 4), faults=Faults(pause=0.05, cancel=0.05))


def test_the_same_seed_gives_the_same_run() -> None:
    """A trace repeats to the last line, and another seed gives another."""
    assert replay(fenced, 7).trace == replay(fenced, 7).trace
    assert replay(fenced, 7).trace != replay(fenced, 8).trace


def test_a_failure_names_its_seed_and_the_command() -> None:
    """What a developer needs to see a failure again is in its message."""
    with pytest.raises(SimulationFailed, match="--seed") as caught:
        explore(unfenced, seeds=range(SEEDS))
    assert f"--seed {caught.value.seed}" in str(caught.value)
    assert "tests/simulation/test_lock.py:unfenced" in str(caught.value)
    with pytest.raises(SimulationFailed):
        replay(unfenced, caught.value.seed)


def test_a_failure_with_faults_of_its_own_is_run_again_with_them() -> None:
    """The command line knows one set of faults: with others it would replay another run."""
    faults = Faults(pause=0.5)
    with pytest.raises(SimulationFailed) as caught:
        explore(unfenced, seeds=range(SEEDS), faults=faults)
    assert f"replay(unfenced, {caught.value.seed}, faults={faults!r})" in str(caught.value)
    assert "python -m" not in str(caught.value)


def test_any_failure_names_its_seed() -> None:
    """A scenario also fails when the code under test raises what nobody asserts, and need not be a function."""

    def broken(process: Process, *, bug: Exception) -> Steps[None]:
        yield Sleep(1.0)
        raise bug

    def scenario(simulator: Simulator, *, bug: Exception) -> None:
        simulator.start("broken", lambda process: broken(process, bug=bug))
        simulator.run(until=60.0)

    with pytest.raises(ZeroDivisionError) as caught:
        explore(partial(scenario, bug=ZeroDivisionError()), seeds=[7])
    assert "Seed 7; again with:" in caught.value.__notes__[0]
    with pytest.raises(SimulationFailed, match="Seed 7; again with:"):
        explore(partial(scenario, bug=AssertionError("seen")), seeds=[7])


def test_a_cancelled_holder_leaves_no_lock_behind() -> None:
    """A caller cancelled during `acquire` gives back what it may have been granted, at once."""

    def cancelled(process: Process) -> Steps[None]:
        lock = Lock(process.backend, "mine", ttl=1000.0)
        try:
            yield from lock.acquire(timeout=50.0)
        except asyncio.CancelledError:
            process.simulator.note(process.name, "was cancelled")
            return
        process.simulator.note(process.name, "was granted")

    # Only what a caller that lives on can clean up after: in flight, waiting, and paused.
    faults = Faults(pause=0.04, cancel=0.5)
    seen = 0
    for seed in range(500):
        simulator = Simulator(seed, faults=faults)
        simulator.start("caller", cancelled)
        simulator.run(until=30.0)
        if any("was cancelled" in line for line in simulator.trace):
            seen += 1
            assert simulator.state.table("locks").get("mine") is None, "\n".join(simulator.trace)
    assert seen > 100
