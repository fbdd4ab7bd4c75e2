"""What the SQL carriers have in common: the statements have the same names and the same parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.backends.sql import Query, Row, Statement
from holdfast.idempotency.store import Busy, Claim, Claimed, Stored
from holdfast.operations import Steps

__all__ = ["SqlStore"]

# Whoever executes in a transaction cannot be seen, so nobody knows for how long.
UNKNOWN_SECONDS = 1.0


class SqlStore:
    """Carry out idempotency with the statements of one dialect."""

    transactional = True

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._statements = statements

    def look(self, claim: Claim) -> Query[Stored | None]:
        """Return the answer if it is there and has not expired."""
        return Query(self._statements["look"], {"identity": claim.identity}, _stored)

    def claim(self, claim: Claim) -> Steps[Claimed | Stored | Busy]:
        """Grant the claim, or tell why not.

        Only the row that the insert returns makes a winner. To read first and take "no row" for "mine" runs twice:
        the reader's snapshot may be older than the commit that refused the insert.
        """
        if (claimed := (yield from Query(self._statements["claim"], self._wish(claim), _claimed))) is not None:
            return claimed
        return (yield from Query(self._statements["blocker"], {"identity": claim.identity}, _blocker))

    def extend(self, claim: Claim) -> Query[bool]:
        """Let the owner's claim live `lease` seconds from now."""
        return Query(self._statements["extend"], _owned(claim), bool)

    def complete(self, claim: Claim, result: str) -> Query[bool]:
        """Store the answer of the owner's claim."""
        return Query(self._statements["complete"], {**_owned(claim), "result": result}, bool)

    def release(self, claim: Claim) -> Query[bool]:
        """Remove the owner's claim."""
        return Query(self._statements["release"], {"identity": claim.identity, "owner": claim.owner}, bool)

    def prune(self, limit: int) -> Query[int] | None:
        """Remove up to `limit` expired records."""
        return Query(self._statements["prune"], {"limit": limit}, len)

    def _wish(self, claim: Claim) -> dict[str, Any]:
        return {
            "identity": claim.identity,
            "scope": claim.scope,
            "endpoint": claim.endpoint,
            "key": claim.key,
            "fingerprint": claim.fingerprint,
            "owner": claim.owner,
            "lease": claim.lease,
            "ttl": claim.ttl,
        }


def _owned(claim: Claim) -> dict[str, Any]:
    return {"identity": claim.identity, "owner": claim.owner, "lease": claim.lease, "ttl": claim.ttl}


def _stored(rows: Sequence[Row]) -> Stored | None:
    return Stored(*rows[0]) if rows else None


def _claimed(rows: Sequence[Row]) -> Claimed | None:
    return Claimed(int(rows[0][0])) if rows else None


def _blocker(rows: Sequence[Row]) -> Stored | Busy:
    if not rows:
        return Busy(None, UNKNOWN_SECONDS)  # not committed yet, or over meanwhile
    fingerprint, result, seconds = rows[0]
    if result is not None:
        return Stored(fingerprint, result)
    return Busy(fingerprint, float(seconds) if seconds > 0 else UNKNOWN_SECONDS)
