"""Locks keep their contract on every backend."""

from holdfast.testing.contracts import LockContract


class TestLocks(LockContract):
    """Run the shipped suite."""
