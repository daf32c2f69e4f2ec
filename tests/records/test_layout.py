"""Records: what is packed comes back, pads are zero, and layouts that C would pad by itself are not accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.records.constants import LIMITS
from kmesh.records.layout import ALL, BACKEND, CELL, ENTRY, FRONTEND_KEY, NODE, Field, Record

_BITS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64}


def values_of(field: Field) -> st.SearchStrategy[int | bytes]:
    if field.format.endswith("s"):
        return st.binary(min_size=field.size, max_size=field.size)
    return st.integers(0, 2 ** _BITS[field.type] - 1)


def named(record: Record) -> list[Field]:
    return [field for field in record.fields if field.name in record.names]


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.name)
@given(st.data())
def test_what_is_packed_comes_back(record: Record, data: st.DataObject) -> None:
    values = [data.draw(values_of(field)) for field in named(record)]
    packed = record.pack(*values)
    assert len(packed) == record.size
    assert record.unpack(packed) == dict(zip(record.names, values, strict=True))


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.name)
def test_pads_are_zero_and_nothing_else_is(record: Record) -> None:
    packed = record.pack(*record.unpack(b"\xff" * record.size).values())
    for field in record.fields:
        want = b"\xff" if field.name in record.names else b"\0"
        at = record.offset(field.name)
        assert packed[at : at + field.size] == want * field.size, field.name


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.name)
def test_fields_lie_at_their_natural_alignment_without_gaps(record: Record) -> None:
    at = 0
    for field in record.fields:
        assert record.offset(field.name) == at
        assert at % field.alignment == 0
        at += field.size
    assert record.size == at == record.struct.size
    assert record.size % record.alignment == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param((Field("a", "u8"), Field("b", "u32")), "not aligned", id="gap"),
        pytest.param((Field("a", "u64"), Field("b", "u8")), "tail padding", id="tail"),
    ],
)
def test_a_layout_that_c_would_pad_is_refused(fields: tuple[Field, ...], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        Record("km_bad", "", fields)


def test_a_wrong_number_of_values_is_refused() -> None:
    with pytest.raises(TypeError, match="km_cell takes"):
        CELL.pack(1, 2)


def test_numbers_are_little_endian_and_addresses_as_given() -> None:
    assert FRONTEND_KEY.pack(bytes(range(16)), 0x5000, 6) == bytes(range(16)) + b"\x00\x50\x06\x00"
    assert CELL.pack(1, 2, 3) == b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x03" + bytes(7)
    assert BACKEND.pack(bytes(16), b"\x0a\x00\x00\x01", 0, 0x901F, 1, 9)[16:24] == b"\x0a\x00\x00\x01\x00\x00\x1f\x90"


def test_entries_that_are_left_out_are_zero() -> None:
    entry = ENTRY.pack(1, 2, 3, 4)
    entries = NODE.unpack(NODE.pack(1, 1, 0, 0, 0, entry))["entries"]
    assert entries == entry + bytes((LIMITS["NODE_FANOUT"] - 1) * ENTRY.size)


def test_an_unknown_field_has_no_offset() -> None:
    with pytest.raises(KeyError):
        CELL.offset("tail")
