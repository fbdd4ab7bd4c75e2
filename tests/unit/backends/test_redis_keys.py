"""Keys: two different names never meet, and what belongs together shares a slot."""

from hypothesis import given
from hypothesis import strategies as some

from holdfast.backends.redis import physical_key
from holdfast.backends.redis.keys import slot_of

parts = some.lists(some.text(some.sampled_from("ab%:{}25BD3A7é")), min_size=1, max_size=3).map(tuple)


@given(parts, parts)
def test_different_parts_give_different_keys(some_parts: tuple[str, ...], other_parts: tuple[str, ...]) -> None:
    assert (physical_key("p", *some_parts) == physical_key("p", *other_parts)) == (some_parts == other_parts)


@given(parts)
def test_the_hash_tag_is_ours_so_suffixes_share_a_slot(names: tuple[str, ...]) -> None:
    key, other = physical_key("p", *names), physical_key("p", *names, suffix=":fence")
    assert slot_of(key) == slot_of(other)
    assert key.count("{") == key.count("}") == 1
    assert other == f"{key}:fence"


def test_slots_are_those_of_the_cluster_specification() -> None:
    # CLUSTER KEYSLOT of a real server; "123456789" is the check value in the specification's appendix.
    assert slot_of("123456789") == 0x31C3
    assert slot_of("foo{hash_tag}") == slot_of("bar{hash_tag}") == slot_of(b"hash_tag")
    assert slot_of("foo{}{bar}") != slot_of("bar")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
