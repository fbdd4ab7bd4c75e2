"""Signals reach those who listen, and nobody else pays for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from holdfast import signals
from holdfast.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rang(Signal):
    """A bell rang."""

    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cracked(Rang):
    """The bell rang and broke."""


@pytest.fixture(autouse=True)
def _nobody_listens_afterwards() -> Iterator[None]:
    before = signals.subscribers
    yield
    signals.subscribers = before


def test_a_subscriber_hears_its_kind_and_what_is_below() -> None:
    """Subscribing to a kind includes its subclasses, and nothing above."""
    heard: list[Signal] = []
    signals.subscribe(Cracked, heard.append)
    signals.subscribe(Signal, heard.append)
    signals.emit(Rang(times=1))
    signals.emit(Cracked(times=2))
    assert heard == [Rang(times=1), Cracked(times=2), Cracked(times=2)]


def test_unsubscribing_ends_it() -> None:
    """After that nothing is heard, and doing it twice is harmless."""
    heard: list[Signal] = []
    stop = signals.subscribe(Rang, heard.append)
    stop()
    stop()
    signals.emit(Rang(times=1))
    assert heard == []


def test_a_failing_subscriber_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Others still hear, the emitter goes on, and the log has it once."""
    heard: list[Signal] = []

    def fail(record: Rang) -> None:
        raise RuntimeError("deaf")

    signals.subscribe(Rang, fail)
    signals.subscribe(Rang, heard.append)
    with caplog.at_level(logging.ERROR, logger="holdfast.signals"):
        signals.emit(Rang(times=1))
        signals.emit(Rang(times=2))
    assert len(heard) == 2
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None


def test_subscribers_is_false_when_nobody_listens() -> None:
    """The one truth test that emitters make."""
    signals.subscribers = ()
    assert not signals.subscribers
    stop = signals.subscribe(Rang, lambda record: None)
    assert signals.subscribers
    stop()
    assert not signals.subscribers


def test_a_newcomer_at_the_address_of_a_failed_subscriber_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each subscriber's first failure is in the log, also when it lives where another has failed and gone."""
    logged: list[str] = []
    # Not `caplog`: it keeps the traceback, and so the failed subscriber.
    monkeypatch.setattr(logging.getLogger("holdfast.signals"), "error", lambda text, *_, **__: logged.append(text))

    def subscribe() -> Callable[[], None]:
        def fail(_: Rang) -> None:
            raise RuntimeError("deaf")

        return signals.subscribe(Rang, fail)

    for _ in range(20):
        stop = subscribe()
        signals.emit(Rang(times=1))
        stop()
        del stop
    assert len(logged) == 20
