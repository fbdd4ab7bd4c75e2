"""Rate limits: token buckets on any backend."""

from holdfast.ratelimit.decision import Decision, LimiterDegraded, LimitRefused
from holdfast.ratelimit.limited import Limited
from holdfast.ratelimit.token_bucket import TokenBucketLimiter

__all__ = ["Decision", "LimitRefused", "Limited", "LimiterDegraded", "TokenBucketLimiter"]
