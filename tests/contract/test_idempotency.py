"""Idempotency keeps its contract on every backend."""

import pytest

from holdfast.testing.contracts import IdempotencyContract, TransactionalIdempotencyContract


class TestIdempotency(IdempotencyContract):
    """Run the shipped suite."""


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
class TestTransactionalIdempotency(TransactionalIdempotencyContract):
    """Run the shipped suite for databases."""
