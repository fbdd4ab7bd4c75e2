"""Advice on TTLs, from how long blocks held their lock."""

import pytest

from holdfast import signals
from holdfast.errors import ConfigurationError
from holdfast.locks import BlockRanLong, Lock, suggest_ttl
from tests.unit.locks.test_lock import Virtual


@pytest.mark.parametrize(
    ("durations", "ttl"),
    [
        ([], None),
        ([1.0] * 19, None),
        ([0.0] * 20, 1.0),
        ([0.01] * 20, 1.0),
        ([2.0] * 20, 5.0),
        ([1.0] * 100 + [9.0], 2.5),
        ([1.0] * 98 + [9.0] * 2, 23.0),
        ([123.4] * 20, 310.0),
    ],
)
def test_it_is_a_multiple_of_the_99th_percentile(durations: list[float], ttl: float | None) -> None:
    assert suggest_ttl(durations) == ttl


def test_a_wrong_factor_is_named() -> None:
    with pytest.raises(ConfigurationError, match="factor=0"):
        suggest_ttl([1.0] * 20, factor=0)


def test_a_lock_knows_its_own_blocks() -> None:
    """And tells of those that took more than half of the TTL."""
    heard: list[BlockRanLong] = []
    unsubscribe = signals.subscribe(BlockRanLong, heard.append)
    backend = Virtual()
    lock = Lock(backend, "name", ttl=10.0)
    for seconds in [4.0] * 20 + [6.0] * 2:
        with lock:
            backend.virtual.advance(seconds)
    unsubscribe()
    assert lock.suggest_ttl() == 15.0
    assert lock.suggest_ttl(factor=2) == 12.0
    assert [(record.name, record.ttl, record.seconds) for record in heard] == [("name", 10.0, pytest.approx(6.0))] * 2
