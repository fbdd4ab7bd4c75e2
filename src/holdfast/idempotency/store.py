"""What is kept per key, and what a carrier must be able to do with it.

A record is *claimed* (somebody executes) or *stored* (the answer is there). Two times end it: a claim whose lease is
over may be taken over, though not by a request with another payload, and any record past its expiry is as good as gone.

    (none) ── claim ──> claimed ── complete ──> stored ── expiry ──> (none)
                        │  ^  └── release ──> (none)
                        └──┘ lease over: claim by another owner
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from holdfast.operations import Request, Steps

__all__ = ["Busy", "Claim", "Claimed", "Store", "Stored", "differ"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One request's wish to be the one that executes.

    Attributes:
        identity: the hash of scope, endpoint and key, under which the record is kept.
        owner: a secret of this request; only it can complete, extend or release its claim.
        fingerprint: of the payload, or "" when none is compared.
        lease: seconds until another request may take over, unless extended; 0 within one transaction.
        ttl: seconds that the answer is kept.
    """

    identity: str
    scope: str
    endpoint: str
    key: str
    owner: str
    fingerprint: str
    lease: float
    ttl: float


class Claimed(NamedTuple):
    """The claim was granted; `attempt` is greater than 1 when it was taken over from one whose lease was over."""

    attempt: int


class Stored(NamedTuple):
    """The answer is there."""

    fingerprint: str
    result: str


class Busy(NamedTuple):
    """Another request executes; None where its fingerprint cannot be seen yet. Its lease ends in `seconds`."""

    fingerprint: str | None
    seconds: float


def differ(first: str, second: str) -> bool:
    """Tell whether two fingerprints are of different payloads; "" is compared with nothing."""
    return first != second and "" not in (first, second)


class Store(Protocol):
    """What a carrier provides, as functions that return requests.

    `claim` may take several. Where `transactional` is true, it may be carried out within a transaction together
    with `complete`; then no other request may ever see the record claimed, only busy or stored.
    """

    transactional: bool

    def look(self, claim: Claim) -> Request[Stored | None]:
        """Return the answer if it is there and has not expired."""
        ...

    def claim(self, claim: Claim) -> Steps[Claimed | Stored | Busy]:
        """Grant the claim if there is no record, or it expired, or its lease is over and no payload differs.

        A claim that takes over without a payload keeps the fingerprint of its predecessor.
        """
        ...

    def extend(self, claim: Claim) -> Request[bool]:
        """Let the claim live `lease` seconds from now; False if it is not the owner's any more."""
        ...

    def complete(self, claim: Claim, result: str) -> Request[bool]:
        """Store the answer for `ttl` seconds; False, and nothing is changed, if the claim is not the owner's."""
        ...

    def release(self, claim: Claim) -> Request[bool]:
        """Remove the owner's claim; False if it has none. A stored answer stays."""
        ...

    def prune(self, limit: int) -> Request[Any] | None:
        """Remove up to `limit` expired records and return how many; None where the backend does it by itself."""
        ...
