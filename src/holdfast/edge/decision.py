"""Decide what to do with a request: a pure function of the request, what is stored, and the time.

```mermaid
flowchart TD
    request --> bypass{"unsafe method, Range,<br>no-store, content?"}
    bypass -- yes --> Bypass
    bypass -- no --> stored{"variant stored, and it may<br>answer this request?"}
    stored -- no --> Miss
    stored -- yes --> age{age}
    age -- "< fresh_for" --> Fresh
    age -- "< fresh_for + stale_for" --> StaleRevalidate
    age -- older --> Miss
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from holdfast.edge.entry import Entry, VaryMiss
from holdfast.edge.request import CacheRequest

__all__ = ["Bypass", "Decision", "Fresh", "Miss", "StaleRevalidate", "decide"]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Answer with `entry`, which is `age` seconds old."""

    entry: Entry
    age: float


@dataclass(frozen=True, slots=True)
class StaleRevalidate:
    """Answer with `entry` at once and fetch it again in the background."""

    entry: Entry
    age: float


@dataclass(frozen=True, slots=True)
class Miss:
    """Ask the origin.

    Attributes:
        reason: why, in the words of RFC 9211, 2.2.
        vary: the request fields that are known to select a variant of this key.
        collapse: whether this request may wait for the answer to another one.
    """

    reason: str
    vary: tuple[bytes, ...] = ()
    collapse: bool = True


@dataclass(frozen=True, slots=True)
class Bypass:
    """Ask the origin and store nothing; `reason` in the words of RFC 9211, 2.2."""

    reason: str


Decision: TypeAlias = Fresh | StaleRevalidate | Miss | Bypass


def decide(  # noqa: PLR0911 - one way out per decision
    request: CacheRequest, found: Entry | VaryMiss | None, now: float
) -> Decision:
    """Decide how `request` is answered.

    Args:
        request: what was asked.
        found: the stored variant that its fields select; `VaryMiss` when only other variants are
            stored; None when the key is unknown.
        now: monotonic seconds, the clock of `Entry.stored_at`.
    """
    if request.bypass is not None:
        return Bypass(request.bypass)
    # RFC 9111, 3.5: the answer to a request with Authorization belongs to its sender until it says
    # otherwise, so such requests wait for nobody. HEAD is answered from a stored GET only.
    collapse = request.method == "GET" and b"authorization" not in request.headers
    if found is None:
        return Miss("uri-miss", collapse=collapse)
    if isinstance(found, VaryMiss):
        return Miss("vary-miss", found.vary, collapse)
    if not _may_answer(found, request):
        return Miss("request", found.vary, collapse=False)
    age = found.age(now)
    # RFC 9111, 4.2: response_is_fresh = (freshness_lifetime > current_age)
    if age < found.fresh_for:
        return Fresh(found, age)
    # RFC 5861, 3: up to so many seconds after it becomes stale "caches MAY serve the response ... while
    # attempting to revalidate it without blocking".
    if age < found.fresh_for + found.stale_for:
        return StaleRevalidate(found, age)
    return Miss("stale", found.vary, collapse)


def _may_answer(entry: Entry, request: CacheRequest) -> bool:
    if b"authorization" in request.headers and not entry.for_authorization:
        return False
    return entry.for_cookies or b"cookie" not in request.headers
