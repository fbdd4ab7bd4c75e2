"""The state machine of the breaker against a reference model, with calls of every kind in flight at once."""

import math
from types import coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.errors import CircuitOpen, RateLimited
from holdfast.resilience import BreakerState, CircuitBreaker
from holdfast.resilience.breaker_state import TRANSITIONS, BreakerEvent, BreakerMachine, diagram
from holdfast.testing.clock import VirtualClock

THRESHOLD, RECOVERY, PROBES, PROBE_TIMEOUT = 3, 10.0, 2, 25.0


class Model:
    """The breaker's rules told in the plainest way: a list of what happened, and sets of calls."""

    def __init__(self) -> None:
        self.period = 0
        self.state = "closed"
        self.failures_in_a_row = 0
        self.opened_at = -math.inf
        self.last_probe_at = -math.inf
        self.probes_out: set[int] = set()
        self.probes_succeeded = 0

    def enter(self, state: str, now: float) -> None:
        self.period += 1
        self.state = state
        self.failures_in_a_row = 0
        self.probes_out = set()
        self.probes_succeeded = 0
        if state == "open":
            self.opened_at = now

    def admit(self, call: int, now: float) -> bool:
        full = len(self.probes_out) + self.probes_succeeded >= PROBES
        if self.state == "open" and now >= self.opened_at + RECOVERY:
            self.enter("half_open", now)
            full = False
        elif self.state == "half_open" and full and now >= self.last_probe_at + PROBE_TIMEOUT:
            self.enter("open", now)
        if self.state == "open" or (self.state == "half_open" and full):
            return False
        if self.state == "half_open":
            self.probes_out.add(call)
            self.last_probe_at = now
        return True

    def finish(self, call: int, period: int, outcome: str, now: float) -> None:
        if period != self.period:
            return
        self.probes_out.discard(call)
        if self.state == "closed" and outcome == "failed":
            self.failures_in_a_row += 1
            if self.failures_in_a_row == THRESHOLD:
                self.enter("open", now)
        elif self.state == "closed" and outcome == "succeeded":
            self.failures_in_a_row = 0
        elif self.state == "half_open" and outcome == "failed":
            self.enter("open", now)
        elif self.state == "half_open" and outcome == "succeeded":
            self.probes_succeeded += 1
            if self.probes_succeeded == PROBES:
                self.enter("closed", now)


OUTCOMES: dict[str, list[BaseException | None]] = {
    "succeeded": [None, LookupError("not found is an answer")],
    "failed": [ConnectionError("refused"), TimeoutError("slow")],
    "neither": [GeneratorExit(), KeyboardInterrupt(), SystemExit(), RateLimited("inner policy")],
}


@coroutine
def suspended() -> Any:
    """Wait until the test decides how this call ends."""
    return (yield)


class BreakerComparison(RuleBasedStateMachine):
    """Random histories of calls, each driven by hand, on the breaker and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.model = Model()
        self.breaker = CircuitBreaker(
            "dependency",
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY,
            half_open_probes=PROBES,
            probe_timeout=PROBE_TIMEOUT,
            failures=(ConnectionError, TimeoutError),
            clock=self.clock,
        )
        self.in_flight: dict[int, tuple[Any, int]] = {}
        self.calls = 0

        @self.breaker
        async def guarded() -> None:
            await suspended()

        self.guarded = guarded

    @rule()
    def start(self) -> None:
        self.calls += 1
        call = self.guarded()
        admitted = self.model.admit(self.calls, self.clock.monotonic())
        if admitted:
            call.send(None)
            self.in_flight[self.calls] = (call, self.model.period)
            return
        with pytest.raises(CircuitOpen) as refused:
            call.send(None)
        left = self.model.opened_at + RECOVERY - self.clock.monotonic()
        assert refused.value.retry_after == (pytest.approx(left) if self.model.state == "open" else None)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), outcome=st.sampled_from(["failed", "failed", "succeeded", "neither"]))
    def finish(self, data: st.DataObject, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.in_flight)))
        error = data.draw(st.sampled_from(OUTCOMES[outcome]))
        call, period = self.in_flight.pop(number)
        with pytest.raises(StopIteration if error is None else type(error)) as seen:
            call.send(None) if error is None else call.throw(error)
        assert error is None or seen.value is error
        self.model.finish(number, period, outcome, self.clock.monotonic())

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def wall_clock_jumps(self, seconds: float) -> None:
        self.clock.jump_wall(seconds)

    @invariant()
    def same_state(self) -> None:
        assert self.breaker.state == self.model.state

    @invariant()
    def never_too_many_probes(self) -> None:
        current = [period for _, period in self.in_flight.values() if period == self.model.period]
        assert self.model.state != "half_open" or len(current) <= PROBES

    def teardown(self) -> None:
        for call, _ in self.in_flight.values():
            call.close()


BreakerComparison.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestBreakerComparison = BreakerComparison.TestCase


def test_every_state_is_left_by_some_event() -> None:
    """No state is a dead end, and each event of the vocabulary is used."""
    assert {old for old, _ in TRANSITIONS} == set(BreakerState)
    assert {event for _, event in TRANSITIONS} == set(BreakerEvent)


def test_the_diagram_shows_every_transition() -> None:
    """The diagram of the documentation has one arrow per entry of the table, and one for the start."""
    assert diagram().count("-->") == len(TRANSITIONS) + 1


def test_probes_that_hang_add_up_no_faster_than_promised() -> None:
    """Each is given up, not ended: half_open_probes more in every probe_timeout + recovery_timeout."""
    machine = BreakerMachine(failure_threshold=1, recovery_timeout=5.0, half_open_probes=2, probe_timeout=20.0)
    machine.failed(machine.current, now=0.0)
    admitted_at = [now for now in range(5, 505) if machine.admit(now=float(now)) is not None]
    assert len(admitted_at) <= 2 * (500 / 25)
    assert all(later - earlier >= 25 for earlier, later in zip(admitted_at, admitted_at[2:], strict=False))


def test_a_probe_that_hangs_does_not_keep_the_circuit_shut_for_ever() -> None:
    """After probe_timeout without an answer the circuit opens again, and is probed again later."""
    machine = BreakerMachine(failure_threshold=1, recovery_timeout=5.0, half_open_probes=1, probe_timeout=20.0)
    machine.failed(machine.current, now=0.0)
    hanging = machine.admit(now=5.0)
    assert hanging is not None
    assert machine.admit(now=24.9) is None
    assert machine.current.state is BreakerState.HALF_OPEN
    assert machine.admit(now=25.0) is None
    assert machine.current.state is BreakerState.OPEN
    machine.succeeded(hanging)
    assert machine.current.state is BreakerState.OPEN
    assert machine.admit(now=30.0) is not None
