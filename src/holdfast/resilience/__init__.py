"""Resilience: circuit breaker, retry, bulkhead and timeout, composed in one right order.

Outermost first: fallback > circuit breaker > retry > hedge > timeout > bulkhead > rate limit > call.
Decorators in another order are refused when their module is imported.
"""

from holdfast.resilience.attempts import RetriesExhausted, RetryScheduled
from holdfast.resilience.breaker_state import BreakerState
from holdfast.resilience.bulkhead import Bulkhead, BulkheadRefused, bulkhead
from holdfast.resilience.circuit_breaker import BreakerChanged, CircuitBreaker, circuit_breaker
from holdfast.resilience.retry import retry
from holdfast.resilience.timeout import CallTimedOut, timeout
from holdfast.resilience.transient import any_exception, is_transient

__all__ = [
    "BreakerChanged",
    "BreakerState",
    "Bulkhead",
    "BulkheadRefused",
    "CallTimedOut",
    "CircuitBreaker",
    "RetriesExhausted",
    "RetryScheduled",
    "any_exception",
    "bulkhead",
    "circuit_breaker",
    "is_transient",
    "retry",
    "timeout",
]
