"""A child of a fork has none of its parent's other threads, so it must not wait for what they held."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from holdfast import background, signals
from holdfast.backends.memory import Call, MemorySync, State
from holdfast.backends.redis._background import PATIENCE, Background, Opening
from holdfast.operations import Sleep, Steps
from holdfast.resilience import Bulkhead, CircuitBreaker

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def succeeds_in_a_child(function: Callable[[], object]) -> bool:
    """Fork, call `function` in the child, and tell whether it came to its end within 10 seconds."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            function()
        except BaseException:  # noqa: BLE001 - nothing of the test may go on in the child
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


@contextlib.contextmanager
def held_elsewhere(block: AbstractContextManager[object]) -> Iterator[None]:
    """Have another thread stay in `block`."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with block:
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)
    yield
    leave.set()
    thread.join()


def put(state: State, key: str) -> int:
    table = state.table("words")
    table.put(key, key)
    return len(table)


def test_a_memory_backend_that_another_thread_was_in_can_be_used() -> None:
    """And what that thread had written of an unfinished transaction is undone."""
    backend = MemorySync()
    entered, leave = threading.Event(), threading.Event()

    def waiting(state: State) -> None:
        entered.set()
        leave.wait(30)

    def steps() -> Steps[None]:
        yield from Call(put, "half")
        yield from Call(waiting)

    thread = threading.Thread(target=backend.atomic, args=[steps])
    thread.start()
    entered.wait(30)

    def in_child() -> None:
        def mine() -> Steps[int]:
            return (yield from Call(put, "mine"))

        assert backend.atomic(mine) == 1
        assert backend.state.journal is None

    assert succeeds_in_a_child(in_child)
    leave.set()
    thread.join()
    assert backend.call(Call(put, "more")) == 2


def test_signals_can_be_subscribed_to_when_another_thread_was_doing_so() -> None:
    def in_child() -> None:
        signals.subscribe(signals.Signal, print)()

    with held_elsewhere(signals._lock):
        assert succeeds_in_a_child(in_child)


def test_background_steps_begin_when_another_thread_was_beginning_the_first() -> None:
    def beating(done: threading.Event) -> Steps[None]:
        yield Sleep(0.001)
        done.set()

    def in_child() -> None:
        done = threading.Event()
        MemorySync().background(beating(done))
        assert done.wait(5)

    with held_elsewhere(background._ticker._opening):
        assert succeeds_in_a_child(in_child)


def test_a_call_in_the_background_is_made_again() -> None:
    """The thread that made it stayed with the parent, whether it held the lock or had begun."""
    go_on = threading.Event()
    here = os.getpid()
    calls = Background(lambda: go_on.wait(30) if os.getpid() == here else "done")
    with pytest.raises(TimeoutError):
        calls(time.monotonic() + 0.01)
    assert PATIENCE > 10

    def in_child() -> None:
        assert calls(time.monotonic() + 5) == "done"

    with held_elsewhere(calls._lock):
        assert succeeds_in_a_child(in_child)
    go_on.set()


@pytest.mark.parametrize("policy", [CircuitBreaker("name"), Bulkhead("name")], ids=type)
def test_a_policy_that_another_thread_was_in_lets_calls_through(policy: Any) -> None:
    @policy  # type: ignore[untyped-decorator]
    def call() -> int:
        return 7

    def fail() -> None:
        raise ValueError

    def in_child() -> None:
        assert call() == 7
        with contextlib.suppress(ValueError):
            policy(fail)()

    with held_elsewhere(policy._lock):
        assert succeeds_in_a_child(in_child)


def test_a_thread_that_waits_for_a_slot_waits_in_the_parent_only() -> None:
    """In the child its place would be the first in the queue for ever, and take the next slot with it."""
    bulkhead = Bulkhead("name", max_concurrent=1, max_queue=2, max_wait=30)

    def enter() -> None:
        with bulkhead:
            pass

    bulkhead.__enter__()
    thread = threading.Thread(target=enter)
    thread.start()
    while not bulkhead.waiting:
        time.sleep(0.001)

    def in_child() -> None:
        bulkhead.__exit__(None, None, None)
        enter()
        enter()

    assert succeeds_in_a_child(in_child)
    bulkhead.__exit__(None, None, None)
    thread.join()
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_what_was_being_opened_takes_no_place_in_the_child() -> None:
    opening = Opening()
    while opening._places.take_now() is not None:
        pass

    def in_child() -> None:
        assert opening(lambda: "socket", time.monotonic() + 1) == "socket"

    assert succeeds_in_a_child(in_child)
