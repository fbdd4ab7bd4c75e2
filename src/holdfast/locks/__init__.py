"""Distributed locks: leases with fencing tokens on any backend."""

from holdfast.locks._block import ReleaseFailed
from holdfast.locks.advice import BlockRanLong, suggest_ttl
from holdfast.locks.decorator import locked
from holdfast.locks.fencing import Fence, FencedFile, FencedTable, FencedValue, FenceGuard
from holdfast.locks.holder import Holder, LeaseEnded
from holdfast.locks.lease import Lease, LeaseLost, RenewalFailed
from holdfast.locks.lock import Lock, RedisLock

__all__ = [
    "BlockRanLong",
    "Fence",
    "FenceGuard",
    "FencedFile",
    "FencedTable",
    "FencedValue",
    "Holder",
    "Lease",
    "LeaseEnded",
    "LeaseLost",
    "Lock",
    "RedisLock",
    "ReleaseFailed",
    "RenewalFailed",
    "locked",
    "suggest_ttl",
]
