"""A guard in memory, for whoever is the resource: a server that gets writes from many clients."""

from __future__ import annotations

import threading

from holdfast import checks
from holdfast.locks.fencing._token import legal_token, stale

__all__ = ["FenceGuard"]


class FenceGuard:
    """Refuse stale fencing tokens for one resource inside one process.

    The guard must live where the resource lives, and knows nothing after a restart. It is safe to share
    between threads.
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
            ConfigurationError: `token` is no whole number from 0 to 2^53.
        """
        legal_token(token)
        with self._lock:
            if token < self._newest:
                raise stale(self.resource, token, self._newest)
            self._newest = token
