"""Distributed locks: leases with fencing tokens on any backend."""

from holdfast.locks._block import ReleaseFailed
from holdfast.locks.fencing import FenceGuard
from holdfast.locks.lease import Lease, LeaseLost, RenewalFailed
from holdfast.locks.lock import Lock, RedisLock

__all__ = ["FenceGuard", "Lease", "LeaseLost", "Lock", "RedisLock", "ReleaseFailed", "RenewalFailed"]
