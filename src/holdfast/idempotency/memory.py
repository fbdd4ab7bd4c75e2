"""Idempotency in memory: the model that the Lua and SQL carriers are compared with. Read this first."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.backends.memory import Call, State
from holdfast.idempotency.store import Busy, Claim, Claimed, Stored, differ
from holdfast.operations import Steps

__all__ = ["claim", "complete", "extend", "look", "prune", "release", "transactional"]

# No transaction can hold the user's own function here, so it runs under a lease.
transactional = False


class _Record(NamedTuple):
    owner: str
    fingerprint: str
    attempt: int
    lease_ends: float
    result: str | None


def look(claim: Claim) -> Call[Stored | None]:
    """Return the answer if it is there and has not expired."""
    return Call(_look, claim)


def claim(claim: Claim) -> Steps[Claimed | Stored | Busy]:
    """Grant the claim, or tell why not."""
    return (yield from Call(_claim, claim))


def extend(claim: Claim) -> Call[bool]:
    """Let the owner's claim live `lease` seconds from now."""
    return Call(_extend, claim)


def complete(claim: Claim, result: str) -> Call[bool]:
    """Store the answer of the owner's claim."""
    return Call(_complete, claim, result)


def release(claim: Claim) -> Call[bool]:
    """Remove the owner's claim."""
    return Call(_release, claim)


def prune(limit: int) -> None:
    """Return None: the table drops by itself what has expired."""
    del limit


def _look(state: State, claim: Claim) -> Stored | None:
    record: _Record | None = state.table("idempotency").get(claim.identity)
    if record is None or record.result is None:
        return None
    return Stored(record.fingerprint, record.result)


def _claim(state: State, claim: Claim) -> Claimed | Stored | Busy:
    record: _Record | None = state.table("idempotency").get(claim.identity)
    fingerprint, attempt = claim.fingerprint, 1
    if record is not None:
        if record.result is not None:
            return Stored(record.fingerprint, record.result)
        if record.lease_ends > state.now or differ(record.fingerprint, claim.fingerprint):
            return Busy(record.fingerprint, max(0.0, record.lease_ends - state.now))
        fingerprint, attempt = claim.fingerprint or record.fingerprint, record.attempt + 1
    lease_ends = state.now + claim.lease
    _put(state, claim, _Record(claim.owner, fingerprint, attempt, lease_ends, None))
    return Claimed(attempt)


def _extend(state: State, claim: Claim) -> bool:
    record = _owned(state, claim)
    if record is None:
        return False
    _put(state, claim, record._replace(lease_ends=state.now + claim.lease))
    return True


def _complete(state: State, claim: Claim, result: str) -> bool:
    record = _owned(state, claim)
    if record is None:
        return False
    _put(state, claim, record._replace(lease_ends=state.now, result=result))
    return True


def _release(state: State, claim: Claim) -> bool:
    if _owned(state, claim) is None:
        return False
    state.table("idempotency").delete(claim.identity)
    return True


def _owned(state: State, claim: Claim) -> _Record | None:
    record: _Record | None = state.table("idempotency").get(claim.identity)
    if record is None or record.owner != claim.owner or record.result is not None:
        return None
    return record


def _put(state: State, claim: Claim, record: _Record) -> None:
    # Full of live records, the table refuses: to drop one would be to execute its request again.
    expires_at = max(record.lease_ends, state.now + claim.ttl)
    state.table("idempotency").put(claim.identity, record, expires_at=expires_at)
