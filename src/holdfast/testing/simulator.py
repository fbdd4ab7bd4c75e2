"""The third driver: many processes, one store and a bad network, in one thread and in virtual time.

A simulated process is a generator that uses holdfast's own classes with `yield from`, because here
operations are neither blocking nor awaited but stepped:

    def worker(process: Process) -> Steps[None]:
        lock = Lock(process.backend, "ledger", ttl=5)
        lease = yield from lock.acquire(timeout=10)
        ...

    def scenario(simulator: Simulator) -> None:
        guard = FenceGuard("ledger")
        for number in range(3):
            simulator.start(f"worker-{number}", worker)
        simulator.run(until=60)
        assert ...

The code under test is the code that ships: the same generators, on the memory carriers, which are the
model for all others. Every random choice comes from the seed, so the same seed gives the same run,
event by event (`simulator.trace`). `explore` tries many seeds; when one fails it says which, and the
command that runs it again.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from holdfast.backends import Backend
from holdfast.backends.memory import Call, State
from holdfast.errors import BackendUnavailable, OutcomeUnknown
from holdfast.operations import Request, Sleep, Steps, Within
from holdfast.testing.clock import VirtualClock
from holdfast.testing.faults import CALM, Faults

__all__ = ["Process", "SimulatedBackend", "Simulator"]

T = TypeVar("T")
Program = Callable[["Process"], Steps[Any]]
USUAL_TRIP = 0.001
REQUEST_TIMEOUT = 1.0
BOUND_OF_EVENTS = 100_000


class SimulatedBackend(Backend[Any]):
    """What simulated processes pass to patterns. Its operations return generators for `yield from`."""

    dialect = "memory"

    def __init__(self, process: Process) -> None:
        simulator = process.simulator
        super().__init__("simulated://", timeout=REQUEST_TIMEOUT, clock=simulator.clock, random=simulator.random)
        self._process = process
        self.label: str | None = process.name

    def run(self, steps: Steps[T]) -> Steps[T]:
        """Hand the steps to the process that asked."""
        return steps

    def call(self, request: Call[T]) -> Generator[Request[Any], Any, T]:
        """Yield the request to the simulator."""
        return iter(request)

    def sleep(self, seconds: float) -> Generator[Request[Any], Any, None]:
        """Yield a sleep to the simulator."""
        return iter(Sleep(seconds))

    def background(self, steps: Steps[None]) -> Callable[[], None]:
        """Run `steps` beside the process; they die with it."""
        return self._process.beside(steps)


class _Strand:
    """One generator that runs in a process: its program, or steps in its background."""

    def __init__(self, name: str, steps: Steps[Any], *, asked: int = 0) -> None:
        self.name = name
        self.steps = steps
        # Which question is open: answers to older ones come too late and are not heard.
        self.asked = asked
        self.cancelled = False


class Process:
    """A simulated process: what its program needs to know."""

    def __init__(self, simulator: Simulator, name: str, program: Program) -> None:
        self.simulator = simulator
        self.name = name
        self.alive: bool = True
        self.paused_until: float = 0.0
        self.backend: SimulatedBackend = SimulatedBackend(self)
        self._strands = [_Strand(name, program(self))]

    def beside(self, steps: Steps[None]) -> Callable[[], None]:
        """Run `steps` next to the program; returns what stops them."""
        strand = _Strand(f"{self.name}/background", steps)
        self._strands.append(strand)
        self.simulator.resume(self, strand, strand.asked, None)

        def stop() -> None:
            strand.asked = -1

        return stop

    def crash(self) -> None:
        """Die at once: nothing is cleaned up, and answers on their way are not heard."""
        self.alive = False
        self.simulator.note(self.name, "crashes")

    @property
    def program(self) -> _Strand:
        """The strand that runs the program itself."""
        return self._strands[0]


class Simulator:
    """A deterministic world. Use it once, for one seed.

    Attributes:
        clock: virtual time, the same for all.
        random: the dice; everything random in a scenario must come from here.
        state: what the simulated store holds.
        trace: what happened, a line each.
    """

    def __init__(self, seed: int, *, faults: Faults = CALM) -> None:
        self.seed = seed
        self.faults = faults
        self.random: random.Random = random.Random(seed)
        self.clock: VirtualClock = VirtualClock()
        self.state: State = State(clock=self.clock)
        self.trace: list[str] = []
        self.requests: int = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        # Crashed generators are kept, so that their `finally` blocks do not run during the simulation.
        self._processes: list[Process] = []

    def start(self, name: str, program: Program, *, after: float = 0.0) -> Process:
        """Start a process `after` so many seconds."""
        process = Process(self, name, program)
        self._processes.append(process)
        self._at(after, lambda: self._step(process, process.program, 0, None))
        return process

    def run(self, *, until: float) -> None:
        """Let time pass until nothing is left to happen, or `until` (seconds from the start)."""
        for _ in range(BOUND_OF_EVENTS):
            if not self._agenda or self._agenda[0][0] > until:
                break
            moment, _, action = heapq.heappop(self._agenda)
            self.clock.advance_to(moment)
            action()
        else:
            raise RuntimeError(f"more than {BOUND_OF_EVENTS} events: does a program never sleep?")
        self.clock.advance_to(until)

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.clock.monotonic():10.4f}  {who:<22} {what}")

    def happens(self, probability: float) -> bool:
        """Throw the dice; no dice are thrown for what never happens."""
        return probability > 0 and self.random.random() < probability

    def resume(self, process: Process, strand: _Strand, asked: int, reply: Any) -> None:
        """Let `strand` go on with `reply` as soon as others had their turn."""
        self._at(0.0, lambda: self._step(process, strand, asked, reply))

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (self.clock.monotonic() + delay, self._order, action))

    # One step of a process ------------------------------------------------------------------------

    def _step(self, process: Process, strand: _Strand, asked: int, reply: Any) -> None:
        if not process.alive or strand.asked != asked:
            return
        if self.happens(self.faults.crash):
            process.crash()
            return
        if (pause := self._pause(process)) > 0:
            self._at(pause, lambda: self._step(process, strand, asked, reply))
            return
        strand.asked += 1
        if strand.cancelled:
            strand.cancelled = False
            reply = asyncio.CancelledError("cancelled by the simulator")
        try:
            request = strand.steps.throw(reply) if isinstance(reply, BaseException) else strand.steps.send(reply)
        except StopIteration:
            self.note(strand.name, "ends")
        except (asyncio.CancelledError, BackendUnavailable, OutcomeUnknown) as error:
            self.note(strand.name, f"ends in {type(error).__name__}")
        else:
            self._ask(process, strand, request)

    def _ask(self, process: Process, strand: _Strand, request: Request[Any]) -> None:
        self.note(strand.name, repr(request))
        asked = strand.asked
        timeout = process.backend.timeout
        if isinstance(request, Within):
            timeout, request = min(timeout, request.seconds), request.request
        if isinstance(request, Sleep):
            self._at(max(0.0, request.seconds), lambda: self._step(process, strand, asked, None))
        elif isinstance(request, Call):
            self.requests += 1
            self._send(process, strand, request, timeout)
        else:
            raise TypeError(f"the simulator cannot carry out {request!r}")
        if strand is process.program and self.happens(self.faults.cancel):
            self._cancel(process, strand, asked, sleeping=isinstance(request, Sleep))

    def _cancel(self, process: Process, strand: _Strand, asked: int, *, sleeping: bool) -> None:
        # A sleeping caller hears of it at once; a request on its way is waited for first.
        strand.cancelled = True
        self.note(strand.name, "is cancelled")
        if sleeping:
            self._at(0.0, lambda: self._step(process, strand, asked, None))

    # One request and its answer -------------------------------------------------------------------

    def _send(self, process: Process, strand: _Strand, request: Call[Any], timeout: float) -> None:
        asked = strand.asked
        if self.happens(self.faults.unavailable):
            error = BackendUnavailable("not reached", backend="simulated://", operation=repr(request))
            self._answer(process, strand, asked, USUAL_TRIP, error)
            return
        unknown = OutcomeUnknown("no answer", backend="simulated://", operation=repr(request))
        self._at(timeout, lambda: self._step(process, strand, asked, unknown))
        if self.happens(self.faults.lost_request):
            self.note(strand.name, "request is lost")
            return
        for _ in range(2 if self.happens(self.faults.duplicate) else 1):
            self._at(self._trip(), lambda: self._apply(process, strand, asked, request))

    def _apply(self, process: Process, strand: _Strand, asked: int, request: Call[Any]) -> None:
        try:
            reply = self.state.call(request.function, request.args)
        except Exception as error:  # noqa: BLE001 - it belongs to the process that asked
            reply = cast("Any", error)
        self.note("store", f"{request!r} -> {reply!r}")
        if self.happens(self.faults.lost_reply):
            self.note("store", "reply is lost")
            return
        self._answer(process, strand, asked, self._trip(), reply)

    def _answer(self, process: Process, strand: _Strand, asked: int, delay: float, reply: Any) -> None:
        self._at(delay, lambda: self._step(process, strand, asked, reply))

    def _trip(self) -> float:
        if self.happens(self.faults.slow):
            return self.random.uniform(0.0, self.faults.slow_seconds)
        return self.random.uniform(0.5, 2.0) * USUAL_TRIP

    def _pause(self, process: Process) -> float:
        """Seconds that the process, with all its strands, stands still from now on."""
        now = self.clock.monotonic()
        if now >= process.paused_until and self.happens(self.faults.pause):
            process.paused_until = now + self.random.uniform(0.0, self.faults.pause_seconds)
            self.note(process.name, f"stands still for {process.paused_until - now:.3f} s")
        return process.paused_until - now
