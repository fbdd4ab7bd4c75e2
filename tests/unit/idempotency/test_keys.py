"""Keys say what an operation means."""

import subprocess
import sys

import pytest

from holdfast import checks
from holdfast.errors import ConfigurationError
from holdfast.idempotency import fingerprint, idempotency_key
from holdfast.idempotency.keys import identity


def test_a_key_never_changes_between_releases() -> None:
    """Keys are stored by others: this value may not change, ever."""
    assert idempotency_key("charge", 42) == "6cf33260a153aa8f98b2f1833bcc107d8b96938d67b28ea8e18e803d5a2543ba"


def test_another_process_makes_the_same_key() -> None:
    """Nothing of this process, such as the seed of hash(), is in a key."""
    code = "from holdfast.idempotency import idempotency_key; print(idempotency_key('a', {'x': 1, 'y': (2, None)}))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == idempotency_key("a", {"y": (2, None), "x": 1})


def test_parts_do_not_run_together() -> None:
    assert len({idempotency_key(*parts) for parts in [("a:b", "c"), ("a", "b:c"), ("a:b:c",), (("a", "b"), "c")]}) == 4


def test_a_namespace_is_readable_and_the_key_still_legal() -> None:
    key = idempotency_key("charge", 42, namespace="n" * 128)
    assert key == "n" * 128 + ":" + idempotency_key("charge", 42)
    assert checks.key("key", key) == key


@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [
        ("team-a/billing_2.0~x:y@z", "team-a/billing_2.0~x:y@z"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("%E6%97%A5", "%25E6%2597%25A5"),
        (' a, "b" ', "%20a%2C%20%22b%22%20"),
    ],
)
def test_a_key_is_legal_in_a_header_whatever_its_namespace(namespace: str, prefix: str) -> None:
    key = idempotency_key("charge", 42, namespace=namespace)
    assert key == f"{prefix}:{idempotency_key('charge', 42)}"
    assert key.isascii()


@pytest.mark.parametrize("namespace", ["n" * 129, "本" * 15, "a\nb", "\ud800"])
def test_an_illegal_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        idempotency_key("charge", namespace=namespace)


def test_a_key_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="parts is empty"):
        idempotency_key()


def test_a_part_without_meaning_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"parts\[1\] is a float"):
        idempotency_key("charge", 9.99)


def test_a_fingerprint_is_of_the_meaning() -> None:
    assert fingerprint({"a": 1, "b": [1.5]}) == fingerprint({"b": (1.5,), "a": 1.0})
    assert fingerprint(b"{}") != fingerprint({})


def test_scope_endpoint_and_key_do_not_run_together() -> None:
    assert len({identity(*one) for one in [("a", "b", "c"), ("a:b", "", "c"), ("", "a:b", "c"), ("a", "b:c", "")]}) == 4
