"""The records of a virtual host's matcher as stable text, for golden files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import iter_unpack

from kmesh.maps.image import MapName, Record
from kmesh.records.constants import LIMITS, Action, DecisionKind, Field, FieldFlag, Handover
from kmesh.records.digest import name_id
from kmesh.records.layout import DECISION, ENTRY, NODE, PAGE, PAGE_KEY, ROUTE, SLOT, TEST

__all__ = ["print_records"]


def print_records(records: Iterable[Record], clusters: Iterable[str]) -> str:
    names = {name_id("cluster", name): name for name in clusters}
    return "".join(f"{line}\n" for record in records for line in _print_record(record, names))


def _print_record(record: Record, clusters: dict[int, str]) -> Iterator[str]:
    name, key, value = record
    match name:
        case MapName.PAGE:
            automaton, page, _ = PAGE_KEY.struct.unpack(key)
            slots = SLOT.struct.iter_unpack(value[PAGE.offset("slots") :])
            used = sum(1 for check, word in slots if check or word)
            yield f"page {automaton:016x}/{page}: {used} of {LIMITS['PAGE_SLOTS']} slots"
        case MapName.NODE:
            kind, count, total, stride, cursor, entries = NODE.struct.unpack(value)
            assert not (total or stride or cursor), kind
            yield f"node {_hex(key)}"
            for threshold, alias, action, target in list(ENTRY.struct.iter_unpack(entries))[:count]:
                yield f"  <= {threshold:08x} else {alias} -> {_print_way(action, target, clusters)}"
        case MapName.ROUTE:
            action, route, target, per_million, _, otherwise = ROUTE.struct.unpack(value)
            way = _print_way(action, target, clusters)
            yield f"route {_hex(key)}: {route}, {per_million} of a million -> {way}, else {otherwise:016x}"
        case MapName.DECISION:
            kind, count, following, tests, links = DECISION.struct.unpack(value)
            yield f"decision {_hex(key)}: {DecisionKind(kind).name.lower()}, next {following:016x}"
            for field, automaton, inverted, absent in list(TEST.struct.iter_unpack(tests))[:count]:
                yield f"  {_print_field(field)} by {automaton:016x}, inverted {inverted:x}, absent {absent:x}"
            yield from (f"  -> {link:016x}" for (link,) in iter_unpack("<Q", links) if link)
        case _:
            raise AssertionError(name)


def _hex(key: bytes) -> str:
    return f"{int.from_bytes(key, 'little'):016x}"


def _print_way(action: int, target: int, clusters: dict[int, str]) -> str:
    match Action(action):
        case Action.CLUSTER:
            return f"cluster {clusters[target]}"
        case Action.NODE:
            return f"node {target:016x}"
        case Action.HANDOVER:
            return f"hand over {Handover(target).name.lower()}"
        case other:
            raise AssertionError(other)


def _print_field(field: int) -> str:
    if field in tuple(Field):
        return Field(field).name.lower()
    flags = "".join(f" {flag.name.lower()}" for flag in FieldFlag if field & flag and flag.name)
    return f"{field:016x}{flags}"
