"""How long to wait before the next attempt: exponential backoff with full jitter.

The jitter matters more than the exponent. Clients that failed together come back together; spreading
each wait over the *whole* interval spreads them as far as it can, for the fewest calls in all.

Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

__all__ = ["longest_backoff"]

_LARGEST_EXPONENT = 1000  # 2.0 ** 1024 overflows


def longest_backoff(retry: int, *, base_delay: float, max_delay: float) -> float:
    """Return the upper end, in seconds, of the interval from which the wait before `retry` is drawn.

    The wait itself is `random() * longest_backoff(...)`: uniform from 0.

    Args:
        retry: 1 for the first retry, that is before the second attempt.
        base_delay: upper end for the first retry, >= 0; it doubles with each one.
        max_delay: where the doubling ends, >= 0.

    >>> [longest_backoff(retry, base_delay=1.0, max_delay=5.0) for retry in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """
    return min(max_delay, base_delay * 2.0 ** min(retry - 1, _LARGEST_EXPONENT))
