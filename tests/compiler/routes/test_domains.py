"""The index leads to every domain, and a change of links touches few of its records."""

from __future__ import annotations

from struct import unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.routes.domains import DomainIndex, domain_texts
from kmesh.model.route import VirtualHost
from kmesh.records.constants import LIMITS
from kmesh.records.layout import INDEX

U64 = st.integers(0, 2**64 - 1)


def read(index: DomainIndex) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """{id: (level, entries)}."""
    out = {}
    for _, key, value in index.records:
        record = INDEX.unpack(value)
        entries = record["entries"]
        assert isinstance(entries, bytes)
        pairs = [unpack_from("<QQ", entries, 16 * place) for place in range(int(record["count"]))]
        out[int.from_bytes(key, "little")] = int(record["level"]), pairs
    return out


def descend(index: DomainIndex, key: int) -> int | None:
    nodes, number = read(index), index.root
    while True:
        level, entries = nodes[number]
        below = [target for least, target in entries if least <= key]
        if level == 0:
            return dict(entries).get(key)
        if not below:
            return None
        number = below[-1]


@given(st.dictionaries(U64, U64, min_size=1, max_size=40), U64)
def test_every_key_is_found_and_no_other(ids: dict[int, int], other: int) -> None:
    index = DomainIndex(ids)
    assert {key: descend(index, key) for key in ids} == ids
    assert descend(index, other) == ids.get(other)


def many(count: int) -> dict[int, int]:
    return {(number * 0x9E3779B97F4A7C15) % 2**64: number for number in range(count)}


@pytest.mark.parametrize(("count", "levels"), [(1, 1), (LIMITS["INDEX_FANOUT"], 1), (1_000, 2), (70_000, 3)])
def test_the_tree_is_as_high_as_it_must_be(count: int, levels: int) -> None:
    index = DomainIndex(many(count))
    assert {level for level, _ in read(index).values()} == set(range(levels))
    assert descend(index, max(many(count))) is not None


def test_no_domains_have_no_root() -> None:
    assert DomainIndex({}).root == 0
    assert DomainIndex({}).records == ()


def test_a_change_of_one_link_rewrites_one_record_of_each_level() -> None:
    ids = many(70_000)
    key = sorted(ids)[1234]
    index = DomainIndex(ids)
    changed = index.with_ids({key: 99})
    assert changed.records == DomainIndex(ids | {key: 99}).records
    assert changed.root != index.root
    assert len(set(changed.records) - set(index.records)) == 3
    assert descend(index, key) == ids[key], "the one before stays what it was"


def test_a_domain_that_no_host_is_as_long_as_is_left_out() -> None:
    longest = "a" * LIMITS["HOST_BYTES"]
    host = VirtualHost(name="v", domains=("A.x", longest, longest + "a"), routes=())
    assert domain_texts(host) == (b"a.x", longest.encode())
