"""Fencing: the resource refuses writers whose lease is over.

No lock service can stop a holder that was paused beyond its lease from writing when it wakes up. Only
the resource can, by remembering the greatest token it has seen:

    A acquires, token 33 ── paused ──────────────────── wakes, writes with 33: refused
                     lease of A ends
                              B acquires, token 34, writes with 34: accepted

Source: Martin Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

import threading

from holdfast import checks
from holdfast.errors import StaleToken

__all__ = ["FenceGuard"]


class FenceGuard:
    """Refuse stale fencing tokens for one resource inside one process.

    The guard must live where the resource lives. It is safe to share between threads.
    """

    def __init__(self, resource: str) -> None:
        """Guard `resource`: what messages call it, 1 to 255 printable characters."""
        self.resource: str = checks.key("resource", resource)
        self._newest = 0
        self._lock = threading.Lock()

    @property
    def newest(self) -> int:
        """The greatest token accepted so far; 0 before the first."""
        return self._newest

    def check(self, token: int) -> None:
        """Accept `token` if no greater one was accepted before.

        Raises:
            StaleToken: a newer holder has been here; `token` and `newest` name both.
            ConfigurationError: `token` is no whole number of at least 0.
        """
        # A NaN would be no less than any token, and make every later one no less than it: no guard at all.
        checks.at_least("token", token, 0)
        with self._lock:
            if token < self._newest:
                message = f"token {token} for {self.resource!r} is stale: {self._newest} was accepted already"
                raise StaleToken(message, resource=self.resource, token=token, newest=self._newest)
            self._newest = token
