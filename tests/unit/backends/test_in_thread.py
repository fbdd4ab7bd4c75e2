"""Calls in threads: answers and errors come back, late results are discarded, and hanging calls are bounded."""

import threading
import time
import weakref

import pytest

from holdfast.backends._in_thread import BoundedCalls, in_thread


def nothing(result: object) -> None:
    raise AssertionError(result)


def test_the_answer_comes_back_and_so_does_an_error() -> None:
    assert in_thread(lambda: 7, 5.0, nothing) == 7
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 // 0, 5.0, nothing)


def test_one_call_after_the_other_finds_the_same_thread() -> None:
    assert in_thread(threading.get_ident, 5.0, nothing) == in_thread(threading.get_ident, 5.0, nothing)


def test_an_idle_thread_holds_on_to_nothing() -> None:
    class Answer:
        pass

    answer = in_thread(Answer, 5.0, nothing)
    seen = weakref.ref(answer)
    del answer
    deadline = time.monotonic() + 5.0
    while seen() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert seen() is None


def test_a_result_that_comes_too_late_is_discarded() -> None:
    hang, discarded, gone = threading.Event(), [], threading.Event()

    def late() -> str:
        hang.wait()
        return "late"

    def discard(result: str) -> None:
        discarded.append(result)
        gone.set()

    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0.05 s"):
        in_thread(late, 0.05, discard)
    assert time.monotonic() - begun < 1.0
    hang.set()
    assert gone.wait(5.0)
    assert discarded == ["late"]


def test_no_more_calls_hang_than_the_limit_allows() -> None:
    calls, hang, begun = BoundedCalls(2), threading.Event(), []

    def late() -> None:
        begun.append(1)
        hang.wait()

    for _ in range(4):
        with pytest.raises(TimeoutError):
            calls.make(late, 0.05, lambda _: None)
    assert len(begun) == 2
    hang.set()
    assert calls.make(lambda: 7, 5.0, nothing) == 7
