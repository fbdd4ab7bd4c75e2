"""Token buckets keep their contract on every backend."""

from holdfast.testing.contracts import TokenBucketContract


class TestTokenBuckets(TokenBucketContract):
    """Run the shipped suite."""
