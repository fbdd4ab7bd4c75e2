"""UUIDs that sort by the time they were made.

Random keys scatter over an index, and each insert touches another page; keys that begin with the time
go to its end. Two made in the same 244 ns by one process have no order.

Source: RFC 9562, section 5.7 (version 7) and 6.2 (method 3: the clock's fraction in `rand_a`).
"""

from __future__ import annotations

import random
import time

__all__ = ["uuid7"]

_SYSTEM = random.SystemRandom()


def uuid7(at: float | None = None, dice: random.Random = _SYSTEM) -> str:
    """Return a new UUID of version 7 in its canonical text.

    Args:
        at: seconds since 1970 that it carries (to 244 ns); None means now.
        dice: gives the 62 random bits.

    >>> uuid7(1700000000.0)[:18]
    '018bcfe5-6800-7000'
    """
    nanoseconds = time.time_ns() if at is None else round(at * 1e9)
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 7 << 76 | (rest * 4096 // 1_000_000) << 64
    value |= 2 << 62 | dice.getrandbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
