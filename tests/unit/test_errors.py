"""The tree of exceptions."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from holdfast import errors
from holdfast.errors import (
    BackendUnavailable,
    HoldfastError,
    LockNotAcquired,
    MissingExtra,
    OutcomeUnknown,
    RateLimited,
)


def _kinds(kind: type[HoldfastError] = HoldfastError) -> list[type[HoldfastError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _kinds(child))]


OURS = [kind for kind in _kinds() if kind.__module__ == "holdfast.errors"]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_survives_pickling_with_its_facts(kind: type[HoldfastError]) -> None:
    """Errors cross process borders."""
    facts: dict[str, Any] = {"backend": "memory://", "operation": "put", "key": "a", "retry_after": 1.5}
    error = kind("what happened", **facts)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == "what happened"
    assert {name: getattr(twin, name) for name in facts} == facts


@pytest.mark.parametrize("kind", OURS)
def test_every_error_has_a_code_a_title_and_a_status(kind: type[HoldfastError]) -> None:
    """What a problem document needs, on the class."""
    assert kind.code == kind.code.lower()
    assert " " not in kind.code
    assert kind.title
    assert 400 <= kind.status <= 599


def test_codes_are_unique() -> None:
    """A code names one kind of error."""
    codes = [kind.code for kind in OURS]
    assert len(codes) == len(set(codes))


def test_the_tree_is_drawn_on_top_of_the_module() -> None:
    """Nobody adds an error without drawing it."""
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in OURS)
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in OURS)


def test_the_two_outcomes_are_different_errors() -> None:
    """Certainly not done and perhaps done must never be confused by one `except`."""
    assert not issubclass(OutcomeUnknown, BackendUnavailable)
    assert not issubclass(BackendUnavailable, OutcomeUnknown)


def test_standard_exceptions_are_caught_as_such() -> None:
    """Code that knows only the standard library's exceptions still catches ours."""
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(MissingExtra, ImportError)
    assert issubclass(errors.TimedOut, TimeoutError)


def test_facts_are_public_attributes() -> None:
    """Facts reach problem documents; private ones do not."""
    error = RateLimited("no", retry_after=2.0, key="user:1", _secret="x")
    assert error.facts == {"retry_after": 2.0, "key": "user:1"}
    assert LockNotAcquired("no").retry_after is None
