"""MemoryStore: variants told apart, counted, and bounded."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.edge import MemoryStore
from holdfast.edge.entry import Entry, VaryMiss
from holdfast.edge.request import selecting


def entry(body: bytes, *vary: bytes, headers: dict[bytes, bytes] | None = None) -> Entry:
    return Entry(
        status=200,
        headers=[],
        body=body,
        stored_at=0,
        initial_age=0,
        fresh_for=60,
        stale_for=0,
        vary=vary,
        variant=selecting(vary, headers or {}),
    )


def store(**bounds: int) -> MemoryStore:
    return MemoryStore(**{"max_entries": 100, "max_bytes": 10**6, "max_variants": 10, **bounds})


async def test_answers_that_vary_on_different_fields_in_turn_are_kept_side_by_side() -> None:
    memory = store()
    first, second = {b"a": b"1"}, {b"a": b"2", b"b": b"1"}
    await memory.put("key", entry(b"first", b"a"), first)
    await memory.put("key", entry(b"second", b"b"), second)
    # Nobody knows which b the first was for, so it had to go; from now on both fields count.
    assert memory.entries == 1
    assert await memory.get("key", first) == VaryMiss((b"a", b"b"))
    await memory.put("key", entry(b"first", b"a"), first)
    found = [await memory.get("key", headers) for headers in (first, second)]
    assert [getattr(each, "body", None) for each in found] == [b"first", b"second"]


async def kept(memory: MemoryStore, keys: list[str], headers: dict[bytes, bytes]) -> list[bool]:
    return [isinstance(await memory.get(key, headers), Entry) for key in keys]


async def test_invented_variants_of_one_key_do_not_evict_the_others() -> None:
    """32 variants of the longest body could take half of the default store, and a small store whole."""
    memory = store(max_bytes=100_000, max_variants=32)
    others = [f"other {number}" for number in range(7)]
    for key in others:
        await memory.put(key, entry(b"x" * 9_000), {})
    for number in range(100):
        headers = {b"a": b"%d" % number}
        await memory.put("key", entry(b"x" * 9_000, b"a", headers=headers), headers)
        assert await kept(memory, ["key"], headers) == [True]
    assert await kept(memory, others, {}) == [True] * 7


async def test_invented_variants_do_not_use_up_the_entries_either() -> None:
    memory = store(max_entries=32, max_variants=32)
    others = [f"other {number}" for number in range(20)]
    for key in others:
        await memory.put(key, entry(b""), {})
    for number in range(100):
        headers = {b"a": b"%d" % number}
        await memory.put("key", entry(b"", b"a", headers=headers), headers)
    assert await kept(memory, others, {}) == [True] * 20


async def test_in_a_full_store_a_key_with_a_few_variants_keeps_them() -> None:
    """Otherwise two languages of one page would drive each other out for ever."""
    memory = store(max_entries=32)
    for number in range(50):
        await memory.put(f"other {number}", entry(b""), {})
    languages = [{b"a": language} for language in (b"de", b"fr", b"it", b"es")]
    for headers in languages:
        await memory.put("key", entry(b"", b"a", headers=headers), headers)
    assert [await kept(memory, ["key"], headers) for headers in languages] == [[True]] * 4


steps = st.tuples(
    st.sampled_from(["put", "put", "get", "delete"]),
    st.sampled_from("klmn"),
    st.dictionaries(st.sampled_from([b"a", b"b"]), st.sampled_from([b"1", b"2", b"3"])),
    st.sets(st.sampled_from([b"a", b"b"])),
    st.binary(max_size=3_000),
)


@given(st.lists(steps, max_size=60))
async def test_whatever_happens_counts_are_right_bounds_hold_and_variants_fit(history: list[Any]) -> None:
    memory = store(max_entries=4, max_bytes=9_000, max_variants=3)
    for action, key, headers, vary, body in history:
        if action == "put":
            await memory.put(key, entry(body, *sorted(vary), headers=headers), headers)
        elif action == "delete":
            await memory.delete(key)
        found = await memory.get(key, headers)
        if isinstance(found, Entry):
            assert selecting(found.vary, headers) == found.variant
        kept = [each for variants in memory._keys.values() for each in variants.entries.values()]
        assert memory.entries == len(kept) <= 4
        assert memory.size_bytes == sum(each.size_bytes for each in kept) + len(memory._keys) <= 9_000
        assert all(len(variants.entries) <= 3 for variants in memory._keys.values())
