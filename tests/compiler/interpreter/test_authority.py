"""The virtual host of a request: what Host may be, what is cut off it, and how its domain is found."""

from __future__ import annotations

import pytest

from kmesh.compiler.automata import Kind, Pattern, Text
from kmesh.compiler.interpreter.authority import Authority, find_virtual_host, read_authority
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.handed_over import HandedOver
from kmesh.maps.image import Fragment, Record, merge_tables
from kmesh.records.constants import LIMITS, Handover, RoutesFlag
from kmesh.records.hash import hash_text
from tests.support.records import key64
from tests.support.request_tables import automaton, domain, index

NO_FLAGS = RoutesFlag(0)
STRIP, MATCHING, IGNORE = RoutesFlag.STRIP_PORT, RoutesFlag.STRIP_MATCHING_PORT, RoutesFlag.IGNORE_PORT
DOT = RoutesFlag.STRIP_DOT
LONGEST = b"x" * LIMITS["HOST_BYTES"]


@pytest.mark.parametrize(
    ("value", "flags", "want"),
    [
        pytest.param(b"a.x", NO_FLAGS, (b"a.x", b"a.x"), id="plain"),
        pytest.param(b"A.x:80", NO_FLAGS, (b"A.x:80", b"A.x:80"), id="case_stays"),
        pytest.param(b"AZaz09._~!$&'()*+,;=:@%[]-", NO_FLAGS, None, id="every_byte_that_is_allowed"),
        pytest.param(LONGEST, NO_FLAGS, None, id="longest"),
        pytest.param(b"a:1", STRIP, (b"a", b"a"), id="any_port"),
        pytest.param(b"a:80", MATCHING, (b"a", b"a"), id="matching_port"),
        pytest.param(b"a:00080", MATCHING, (b"a", b"a"), id="matching_port_with_zeros"),
        pytest.param(b"a:81", MATCHING, (b"a:81", b"a:81"), id="other_port"),
        pytest.param(b"a:65616", MATCHING, (b"a:65616", b"a:65616"), id="port_of_seventeen_bits"),
        pytest.param(b"80", STRIP | IGNORE, (b"80", b"80"), id="digits_without_a_colon"),
        pytest.param(b"a:", STRIP, (b"a:", b"a:"), id="no_digits"),
        pytest.param(b"a:8x", STRIP, (b"a:8x", b"a:8x"), id="not_digits"),
        pytest.param(b":80", STRIP, (b"", b""), id="nothing_but_a_port"),
        pytest.param(b"[::1]", STRIP, (b"[::1]", b"[::1]"), id="colons_in_brackets"),
        pytest.param(b"[::1]:80", STRIP, (b"[::1]", b"[::1]"), id="port_after_brackets"),
        pytest.param(b"a:b:80", STRIP, (b"a:b", b"a:b"), id="last_colon"),
        pytest.param(b"a:1:80", STRIP | IGNORE, (b"a:1", b"a"), id="one_port_cut_and_one_ignored"),
        pytest.param(b"A:x", IGNORE, (b"A:x", b"A"), id="ignored_whatever_it_is"),
        pytest.param(b"a:", IGNORE, (b"a:", b"a"), id="ignored_when_empty"),
        pytest.param(b"[::1]:80", IGNORE, (b"[::1]:80", b"[::1]"), id="ignored_after_brackets"),
        pytest.param(b"a:123456", IGNORE, (b"a:123456", b"a"), id="ignored_however_long"),
        pytest.param(b"a.b:8.", DOT, Handover.NORMALIZE, id="dot_at_the_end"),
        pytest.param(b"a.", DOT, Handover.NORMALIZE, id="dot"),
        pytest.param(b"a.:80", DOT, Handover.NORMALIZE, id="dot_before_the_port"),
        pytest.param(b"a.:1:80", DOT, Handover.NORMALIZE, id="dot_before_an_earlier_colon"),
        pytest.param(b"a.b", DOT, (b"a.b", b"a.b"), id="dot_inside"),
        pytest.param(b"a.", NO_FLAGS, (b"a.", b"a."), id="dot_that_stays"),
        pytest.param(b"a:123456", STRIP, Handover.NORMALIZE, id="six_digits_to_strip"),
        pytest.param(b"a:000080", MATCHING, Handover.NORMALIZE, id="six_digits_to_compare"),
        pytest.param(b"", NO_FLAGS, Handover.HOST, id="empty"),
        pytest.param(LONGEST + b"x", NO_FLAGS, Handover.HOST, id="too_long"),
        *(
            pytest.param(b"a" + odd, NO_FLAGS, Handover.HOST, id=odd.hex())
            for odd in (b"/", b"?", b" ", b"\xe9", b"\t")
        ),
    ],
)
def test_authority(value: bytes, flags: RoutesFlag, want: tuple[bytes, bytes] | Handover | None) -> None:
    """None: nothing is cut off."""
    if isinstance(want, Handover):
        with pytest.raises(HandedOver) as caught:
            read_authority([value], flags, 80)
        assert caught.value.reason is want
    else:
        seen, host = want or (value, value)
        assert read_authority([value], flags, 80) == Authority(value=seen, host=host)


@pytest.mark.parametrize("values", [[], [b"a", b"a"]], ids=["none", "two"])
def test_one_host_it_must_be(values: list[bytes]) -> None:
    with pytest.raises(HandedOver) as caught:
        read_authority(values, NO_FLAGS, 80)
    assert caught.value.reason is Handover.HOST


A, B, ANY = b"a.x", b"b.x", b"*"
INDEX_ID = 1
ENDS_IN_X = Text(kind=Kind.SUFFIX, text=b"x", ignore_case=True)


def find(host: bytes, *records: Record, wildcard: tuple[Pattern, int] | None = None) -> int | Handover | None:
    """A link, a reason, or None for BROKEN."""
    number, pages = automaton(wildcard) if wildcard else (0, [])
    tables = merge_tables([Fragment.of([*records, *pages])])
    try:
        return find_virtual_host(tables, INDEX_ID if records else 0, number, host)
    except HandedOver as why:
        return why.reason
    except Broken:
        return None


def leaf(*texts: bytes) -> list[Record]:
    """Domain n leads to link 10 * n, from 1."""
    numbers = {hash_text(text): number for number, text in enumerate(texts, 1)}
    domains = [domain(number, text, 10 * number) for number, text in enumerate(texts, 1)]
    return [index(INDEX_ID, numbers), *domains]


@pytest.mark.parametrize(
    ("host", "want"),
    [
        *((A, 10), (B, 20), (A.upper(), 10), (b"c.x", 30), (b"C.X", 30)),
        *((b"c.y", Handover.NO_VIRTUAL_HOST), (b"", Handover.NO_VIRTUAL_HOST)),
    ],
    ids=["first", "second", "in_capitals", "wildcard", "wildcard_in_capitals", "none", "empty"],
)
def test_domains(host: bytes, want: int | Handover) -> None:
    assert find(host, *leaf(A, B, ANY), wildcard=(ENDS_IN_X, hash_text(ANY))) == want


def test_no_domains() -> None:
    assert find(A) is Handover.NO_VIRTUAL_HOST


def test_a_wildcard_that_the_index_lacks() -> None:
    assert find(A, *leaf(B), wildcard=(ENDS_IN_X, 5)) is Handover.NO_VIRTUAL_HOST


@pytest.mark.parametrize("text", [b"a.y", b"a.xx", b"a."], ids=["same_length", "longer", "shorter"])
def test_texts_with_one_hash_are_told_apart(text: bytes) -> None:
    records = [index(INDEX_ID, {hash_text(A): 1, hash_text(ANY): 2}), domain(1, text, 10), domain(2, ANY, 20)]
    assert find(A, *records) is Handover.NO_VIRTUAL_HOST
    assert find(A, *records, wildcard=(ENDS_IN_X, hash_text(ANY))) == 20


@pytest.mark.parametrize("levels", range(1, LIMITS["INDEX_DEPTH"] + 2))
def test_levels(levels: int) -> None:
    """Each above the leaf has an entry for smaller hashes, one for this, one for greater ones."""
    key = hash_text(A)
    inner = [
        index(number, {0: 99, key: number + 1, key + 1: 99}, level=levels - number) for number in range(1, levels)
    ]
    got = find(A, *inner, index(levels, {key - 1: 99, key: 50, key + 1: 99}), domain(50, A, 7))
    assert got == (7 if levels <= LIMITS["INDEX_DEPTH"] else None)


def test_between_the_entries() -> None:
    key = hash_text(A)
    records = index(1, {key - 1: 2, key + 1: 99}, level=1), index(2, {key: 50}), domain(50, A, 7)
    assert find(A, *records) == 7
    assert find(A, index(1, {key + 1: 99}, level=1)) is Handover.NO_VIRTUAL_HOST
    assert find(A, index(1, {key - 1: 99, key + 1: 99})) is Handover.NO_VIRTUAL_HOST


def test_entries_beyond_the_count_are_none() -> None:
    key = hash_text(A)
    assert find(A, index(1, {key - 1: 98, key: 99}, count=1)) is Handover.NO_VIRTUAL_HOST


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([domain(1, A, 10)], id="no_index"),
        pytest.param([index(1, {hash_text(A): 2})], id="no_domain"),
        pytest.param([index(1, {0: 2}, level=1)], id="no_index_below"),
        pytest.param([index(1, {0: 1}, level=1)], id="circle"),
        pytest.param([index(1, {0: 1}, count=LIMITS["INDEX_FANOUT"] + 1)], id="more_entries_than_fit"),
    ],
)
def test_broken(records: list[Record]) -> None:
    assert find(A, *records) is None


def test_missing_pages_of_wildcards_are_broken() -> None:
    tables = merge_tables([Fragment.of(leaf(B))])
    with pytest.raises(Broken):
        find_virtual_host(tables, INDEX_ID, 5, A)


def test_a_host_of_full_length() -> None:
    assert find(LONGEST, *leaf(LONGEST)) == 10
    number, key, value = domain(1, LONGEST, 10)
    longer = (number, key, value[:8] + key64(LIMITS["HOST_BYTES"] + 1) + value[16:])
    assert find(LONGEST, index(INDEX_ID, {hash_text(LONGEST): 1}), longer) is Handover.NO_VIRTUAL_HOST
