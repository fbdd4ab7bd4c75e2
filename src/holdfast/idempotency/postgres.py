"""Idempotency on PostgreSQL: see `postgres.sql`, and `memory` for the model."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.backends.sql import Query, statements
from holdfast.idempotency._sql import SqlStore
from holdfast.idempotency.store import Busy, Claim, Claimed, Stored
from holdfast.operations import Steps

__all__ = ["claim", "complete", "extend", "look", "prune", "release", "transactional"]

_store = SqlStore(statements(__file__, "postgres.sql"))

transactional: bool = _store.transactional
look: Callable[[Claim], Query[Stored | None]] = _store.look
claim: Callable[[Claim], Steps[Claimed | Stored | Busy]] = _store.claim
extend: Callable[[Claim], Query[bool]] = _store.extend
complete: Callable[[Claim, str], Query[bool]] = _store.complete
release: Callable[[Claim], Query[bool]] = _store.release
prune: Callable[[int], Query[int] | None] = _store.prune
