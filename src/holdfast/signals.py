"""What happens inside holdfast, told to whoever listens.

Every pattern emits small frozen records (`LeaseLost`, `BreakerChanged`, `KeyReplayed`...), each
defined beside the code that emits it. Metrics, traces, logs and the console are subscribers; without
one, emitting costs a truth test:

    if signals.subscribers:
        signals.emit(LeaseLost(name=name, token=token))

A subscriber is called in the thread or task where the event happened, so it must be quick and must
not block. An exception in a subscriber never reaches the pattern: it is logged once per subscriber.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from holdfast import forks

__all__ = ["Signal", "emit", "subscribe", "subscribers"]

_logger = logging.getLogger("holdfast.signals")
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """The base of every record."""


S = TypeVar("S", bound=Signal)
Subscription = tuple[type[Signal], Callable[[Any], None]]

# Replaced as a whole, never changed in place: emit() reads it without a lock.
subscribers: tuple[Subscription, ...] = ()
_failed: set[int] = set()


def subscribe(kind: type[S], callback: Callable[[S], None]) -> Callable[[], None]:
    """Call `callback` with every record of `kind` (and its subclasses) from now on.

    Returns a function that ends the subscription; calling it twice is harmless.
    """
    global subscribers  # noqa: PLW0603 - one registry per process is what a signal bus is
    entry: Subscription = (kind, callback)
    with _lock:
        subscribers = (*subscribers, entry)

    def unsubscribe() -> None:
        global subscribers  # noqa: PLW0603 - see above
        with _lock:
            subscribers = tuple(existing for existing in subscribers if existing is not entry)
        # The next object at this address may be another subscriber, whose failure has not been logged.
        _failed.discard(id(callback))

    return unsubscribe


def emit(record: Signal) -> None:
    """Hand `record` to every subscriber of its kind."""
    for kind, callback in subscribers:
        if isinstance(record, kind):
            try:
                callback(record)
            except Exception as error:  # noqa: BLE001 - whatever a subscriber raises, the pattern goes on
                _log_once(callback, error)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - whoever held it stayed with the parent
    _lock = threading.Lock()


forks.first(_after_fork)


def _log_once(callback: Callable[[Any], None], error: Exception) -> None:
    if id(callback) not in _failed:
        _failed.add(id(callback))
        _logger.error("subscriber %r failed; later failures of it are not logged", callback, exc_info=error)
