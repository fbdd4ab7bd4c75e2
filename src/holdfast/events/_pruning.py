"""Forgetting beside the work: in proportion to what is added, so that it keeps up at any rate.

A fixed number of rows now and then is either too many for a quiet table or too few for a busy one. Twice
what was added shrinks a table that has grown while nothing could be removed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from holdfast.operations import Request, Steps

__all__ = ["prune_beside"]

# So many additions share one statement, which removes up to twice as many rows.
ONE_IN = 100


def prune_beside(dice: random.Random, added: int, prune: Callable[[int], Request[None] | Steps[None]]) -> Steps[None]:
    """After `added` more rows, have `prune(limit)` remove up to twice as many, on average."""
    if dice.random() * ONE_IN < added:
        yield from prune(2 * max(added, ONE_IN))
