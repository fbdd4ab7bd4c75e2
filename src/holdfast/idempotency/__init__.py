"""Idempotency: the same request may arrive any number of times, and takes effect once."""

from holdfast.idempotency._execution import ClaimLost, KeyRefused, KeyReplayed, KeyStored, KeyTakenOver
from holdfast.idempotency.execute import idempotent_execute, prune
from holdfast.idempotency.keys import fingerprint, idempotency_key

__all__ = [
    "ClaimLost",
    "KeyRefused",
    "KeyReplayed",
    "KeyStored",
    "KeyTakenOver",
    "fingerprint",
    "idempotency_key",
    "idempotent_execute",
    "prune",
]
