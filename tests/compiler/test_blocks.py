from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.blocks import cut_blocks

KEYS = st.sets(st.integers(0, 2**64 - 1), max_size=300).map(sorted)


@given(KEYS, st.integers(1, 64))
def test_blocks_cover_the_keys_in_order(keys: list[int], limit: int) -> None:
    blocks = cut_blocks(keys, limit)
    assert [keys[i] for start, end in blocks for i in range(start, end)] == keys
    assert all(0 < end - start <= limit for start, end in blocks)


@given(KEYS.filter(bool), st.integers(1, 8), st.data())
def test_a_key_less_changes_one_block_or_joins_two(keys: list[int], limit: int, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(keys))
    fewer = [key for key in keys if key != gone]
    before = {tuple(keys[start:end]) for start, end in cut_blocks(keys, limit)}
    after = {tuple(fewer[start:end]) for start, end in cut_blocks(fewer, limit)}
    assert len(before - after) in (1, 2)
    assert len(after - before) <= 1


def test_keys_that_agree_in_all_but_their_last_bits() -> None:
    assert cut_blocks([0, 1, 2, 3, 2**63], 2) == [(0, 2), (2, 4), (4, 5)]
