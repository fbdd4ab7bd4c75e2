"""Distributed locks: leases with fencing tokens on any backend."""

from holdfast.locks._block import ReleaseFailed
from holdfast.locks.fencing import FenceGuard
from holdfast.locks.holder import Holder, LeaseEnded
from holdfast.locks.lease import Lease, LeaseLost, RenewalFailed
from holdfast.locks.lock import Lock, RedisLock

__all__ = [
    "FenceGuard",
    "Holder",
    "Lease",
    "LeaseEnded",
    "LeaseLost",
    "Lock",
    "RedisLock",
    "ReleaseFailed",
    "RenewalFailed",
]
