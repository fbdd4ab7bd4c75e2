"""Idempotency on Redis: one atomic script, so one round trip, per step. Time is the server's.

The claim and the answer are two writes with `process` in between, so an effect may come twice after a crash: at
least once, never exactly once. And what Redis keeps is as durable as it is configured: a record that was evicted, or
lost in a failover, is an operation that may run again.
"""

from __future__ import annotations

from typing import Any

from holdfast.backends.redis import Command, Eval, Script, physical_key
from holdfast.idempotency.store import Busy, Claim, Claimed, Stored
from holdfast.operations import Steps

__all__ = ["claim", "complete", "extend", "look", "prune", "release", "transactional"]

transactional = False

_CLAIM = Script(__file__, "claim.lua")
_EXTEND = Script(__file__, "extend.lua")
_COMPLETE = Script(__file__, "complete.lua")
_RELEASE = Script(__file__, "release.lua")


def look(claim: Claim) -> Command[Stored | None]:
    """Return the answer if it is there and has not expired."""
    return Command(("HMGET", _record(claim), "fingerprint", "result"), _looked, writes=False)


def claim(claim: Claim) -> Steps[Claimed | Stored | Busy]:
    """Grant the claim, or tell why not."""
    arguments = (claim.owner, claim.fingerprint, _ms(claim.lease), _ms(claim.ttl))
    return (yield from Eval(_CLAIM, (_record(claim),), arguments, _claimed))


def extend(claim: Claim) -> Eval[bool]:
    """Let the owner's claim live `lease` seconds from now."""
    return Eval(_EXTEND, (_record(claim),), (claim.owner, _ms(claim.lease), _ms(claim.ttl)), bool)


def complete(claim: Claim, result: str) -> Eval[bool]:
    """Store the answer of the owner's claim."""
    return Eval(_COMPLETE, (_record(claim),), (claim.owner, result, _ms(claim.ttl)), bool)


def release(claim: Claim) -> Eval[bool]:
    """Remove the owner's claim."""
    return Eval(_RELEASE, (_record(claim),), (claim.owner,), bool)


def prune(limit: int) -> None:
    """Return None: Redis removes by itself what has expired."""
    del limit


def _record(claim: Claim) -> str:
    return physical_key("idempotency", claim.identity)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _looked(reply: list[bytes | None]) -> Stored | None:
    fingerprint, result = reply
    if fingerprint is None or result is None:
        return None
    return Stored(fingerprint.decode(), result.decode())


def _claimed(reply: list[Any]) -> Claimed | Stored | Busy:
    outcome, *facts = reply
    if outcome == 1:
        return Claimed(facts[0])
    if outcome == 2:  # noqa: PLR2004 - claim.lua says what its numbers mean
        return Stored(facts[0].decode(), facts[1].decode())
    return Busy(facts[0].decode(), facts[1] / 1000)
