"""The endless work of relays and consumers: turn after turn, with a pause when there is nothing to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from holdfast.errors import ConfigurationError
from holdfast.events.dead_letters import described
from holdfast.operations import Sleep, Steps

__all__ = ["LONGEST_DELAY", "backoff", "endless", "leaving", "never"]

_logger = logging.getLogger("holdfast.events")
LONGEST_DELAY = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


def never() -> bool:
    """Return False: for work that ends only with its process or its cancellation."""
    return False


def backoff(attempts: int, first: float, dice: Any) -> float:
    """Return how long to wait after `attempts` failures (>= 1): doubling, jittered, at most a minute."""
    longest: float = min(LONGEST_DELAY, first * 2.0 ** min(attempts - 1, 30))
    return longest * float(dice.uniform(0.5, 1.0))


def leaving(work: Steps[None], leave: Callable[[], Steps[None]]) -> Steps[None]:
    """Carry out endless `work`, and `leave()` when it ends, also by a cancellation: a successor need not wait."""
    try:
        yield from work
    except GeneratorExit:
        raise  # nobody is left to carry out a release
    except BaseException:
        yield from leave()
        raise
    yield from leave()


def _is_configuration(error: Exception) -> bool:
    return isinstance(error, ConfigurationError)


def endless(
    driver: Any,
    turn: Callable[[], Steps[int]],
    *,
    poll_interval: float,
    stop: Callable[[], bool],
    failed: Callable[[Exception], None],
    ends: Callable[[Exception], bool] = _is_configuration,
) -> Steps[None]:
    """Carry out `turn()` until `stop()`; while it does something without a pause.

    A store or broker that is away is waited for, 0.1 to 5 s between tries. Only what `ends` says ends the
    work: by default a wrong configuration, because waiting cannot mend it.
    """
    failures = 0
    while not stop():
        try:
            done = yield from turn()
        except Exception as error:  # whatever a broker or store raises while it is away
            if ends(error):
                raise
            failures += 1
            if failures == 1:
                _logger.warning("trying again: %s", described(error))
            failed(error)
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
            yield Sleep(pause * driver.random.uniform(0.5, 1.0))
        else:
            failures = 0
            if not done:
                yield Sleep(poll_interval)
