"""The guard at the resource."""

import pytest

from holdfast.errors import StaleToken
from holdfast.locks import FenceGuard


def test_a_stale_token_is_refused_and_named() -> None:
    """Once a greater token was seen, a smaller one is over; the same one may come again."""
    guard = FenceGuard("ledger")
    for token in (3, 3, 7):
        guard.check(token)
    with pytest.raises(StaleToken, match="ledger") as caught:
        guard.check(6)
    assert caught.value.facts == {"resource": "ledger", "token": 6, "newest": 7}
    assert guard.newest == 7
