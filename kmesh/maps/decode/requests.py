"""Descriptions of the records that a request follows: routing, routes, index, domain, decision, route, page. Pure.

A link is shown as what it leads to, "route ID" or "decision ID", and one that is 0 as "none". How the records are
read is in docs/decisions/0008-request-matching.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag

from kmesh.maps.decode.naming import (
    Description,
    Names,
    Unpacked,
    describe_way,
    hexadecimal,
    id_of,
    is_sealed,
    name_of,
    print_seal,
    print_way,
)
from kmesh.model.match import MILLION
from kmesh.records.constants import (
    LINK_KIND_BITS,
    DecisionKind,
    Field,
    FieldFlag,
    LinkKind,
    Mark,
    RoutesFlag,
    SlotFlag,
)
from kmesh.records.layout import (
    DECISION,
    DOMAIN,
    INDEX,
    INDEX_ENTRY,
    PAGE,
    PAGE_KEY,
    ROUTE,
    ROUTES,
    ROUTING,
    SLOT,
    TEST,
)

__all__ = ["describe_decision", "describe_domain", "describe_index", "describe_page", "describe_route"]
__all__ += ["describe_routes", "describe_routing", "print_decision", "print_domain", "print_index", "print_page"]
__all__ += ["print_route", "print_routes", "print_routing"]


def describe_routing(key: bytes, value: bytes, names: Names) -> Description:
    number, cell = id_of(key), ROUTING.unpack(value)
    return {
        "routing": names.units.get(number, ""),
        "id": hexadecimal(number),
        **describe_way(cell, names),
        "is_sealed": is_sealed(key, cell),
    }


def print_routing(record: Description) -> str:
    return f"{record['routing'] or '?'} {record['id']} {print_way(record)}{print_seal(record)}"


def describe_routes(key: bytes, value: bytes) -> Description:
    routes: Unpacked = ROUTES.unpack(value)
    return {
        "id": hexadecimal(id_of(key)),
        "head": _describe_id(routes["head"]),
        "domains": _describe_id(routes["domains"]),
        "wildcards": _describe_id(routes["wildcards"]),
        "flags": _list_flags(RoutesFlag, routes["flags"]),
        "relayed_marks": _list_flags(Mark, routes["relayed_marks"]),
    }


def print_routes(record: Description) -> str:
    flags = "".join(f", {flag}" for flag in record["flags"])
    marks = f", relays {' '.join(record['relayed_marks'])}" if record["relayed_marks"] else ""
    parts = f"head {record['head']}, domains {record['domains']}, wildcards {record['wildcards']}"
    return f"{record['id']} {parts}{flags}{marks}"


def describe_index(key: bytes, value: bytes) -> Description:
    """`entries` lead to domains from level 0, else to indexes of the level below."""
    index: Unpacked = INDEX.unpack(value)
    used = index["entries"][: index["count"] * INDEX_ENTRY.size]
    entries = INDEX_ENTRY.struct.iter_unpack(used)
    return {
        "id": hexadecimal(id_of(key)),
        "level": index["level"],
        "entries": [{"hash": hexadecimal(least), "target": hexadecimal(target)} for least, target in entries],
    }


def print_index(record: Description) -> Iterator[str]:
    yield f"{record['id']} level {record['level']} of {len(record['entries'])}"
    sign, kind = (">=", "index") if record["level"] else ("==", "domain")
    for entry in record["entries"]:
        yield f"  {sign} {entry['hash']} -> {kind} {entry['target']}"


def describe_domain(key: bytes, value: bytes) -> Description:
    domain: Unpacked = DOMAIN.unpack(value)
    text = domain["text"][: domain["length"]].decode("utf-8", "backslashreplace")
    return {"id": hexadecimal(id_of(key)), "domain": text, "link": _describe_link(domain["link"])}


def print_domain(record: Description) -> str:
    return f"{record['id']} {record['domain']} -> {record['link']}"


def describe_decision(key: bytes, value: bytes, names: Names) -> Description:
    """`links` are of a TEST, one for each bit up to the last that leads anywhere."""
    decision: Unpacked = DECISION.unpack(value)
    is_split = decision["kind"] == DecisionKind.SPLIT
    used = decision["tests"][: decision["test_count"] * TEST.size]
    tests: list[Unpacked] = [TEST.unpack(used[at : at + TEST.size]) for at in range(0, len(used), TEST.size)]
    packed = decision["links"].rstrip(b"\0")
    links = [packed[at : at + 8] for at in range(0, len(packed), 8)]
    return {
        "id": hexadecimal(id_of(key)),
        "kind": name_of(DecisionKind, decision["kind"]),
        "tests": [_describe_test(test, names, is_split=is_split) for test in tests],
        "links": [_describe_link(id_of(link)) for link in links],
        "next": _describe_link(decision["next"]),
    }


def _describe_test(test: Unpacked, names: Names, *, is_split: bool) -> Description:
    """`absent` is a link in a SPLIT, and 64 bits elsewhere, as `inverted` is."""
    return {
        "field": _describe_field(test["field"], names),
        "automaton": _describe_id(test["automaton"]),
        "inverted": hexadecimal(test["inverted"]),
        "absent": _describe_link(test["absent"]) if is_split else hexadecimal(test["absent"]),
    }


def print_decision(record: Description) -> Iterator[str]:
    yield f"{record['id']} {record['kind']} of {len(record['tests'])}, next {record['next']}"
    for test in record["tests"]:
        inverted = f", inverted {test['inverted']}" if test["inverted"] != hexadecimal(0) else ""
        yield f"  {test['field']} by {test['automaton']}{inverted}, absent {test['absent']}"
    for bit, link in enumerate(record["links"]):
        yield f"  {bit:2} -> {link}"


def describe_route(key: bytes, value: bytes, names: Names) -> Description:
    """`route` is its place in the virtual host, from 0."""
    route: Unpacked = ROUTE.unpack(value)
    return {
        "id": hexadecimal(id_of(key)),
        "route": route["route"],
        "per_million": route["per_million"],
        **describe_way(route, names),
        "otherwise": _describe_link(route["otherwise"]),
    }


def print_route(record: Description) -> str:
    is_certain = record["per_million"] == MILLION
    chance = "" if is_certain else f" for {record['per_million']} of {MILLION}, others {record['otherwise']}"
    return f"{record['id']} of routes[{record['route']}] {print_way(record)}{chance}"


def describe_page(key: bytes, value: bytes) -> Description:
    """Counts only: classes of bytes, states that have an output, transitions, and states (rows) that those leave."""
    asked: Unpacked = PAGE_KEY.unpack(key)
    page: Unpacked = PAGE.unpack(value)
    checks = [check for check, _ in SLOT.struct.iter_unpack(page["slots"])]
    rows = [check for check in checks if check & SlotFlag.ROW]
    return {
        "automaton": hexadecimal(asked["automaton"]),
        "page": asked["page"],
        "classes": len(set(page["classes"])),
        "outputs": checks.count(SlotFlag.OUTPUT),
        "transitions": len(rows),
        "rows": len(set(rows)),
    }


def print_page(record: Description) -> str:
    counts = ", ".join(f"{record[name]} {name}" for name in ("transitions", "rows", "outputs", "classes"))
    return f"{record['automaton']} page {record['page']}: {counts}"


def _describe_link(link: int) -> str:
    if not link:
        return "none"
    kind = link & LINK_KIND_BITS
    return f"{LinkKind(kind).name.lower()} {hexadecimal(link)}" if kind in set(LinkKind) else hexadecimal(link)


def _describe_id(number: int) -> str:
    return hexadecimal(number) if number else "none"


def _describe_field(number: int, names: Names) -> str:
    if number in set(Field):
        return Field(number).name
    if number in names.fields:
        return names.fields[number]
    return f"{'parameter' if number & FieldFlag.PARAMETER else 'header'} {hexadecimal(number)}"


def _list_flags(flags: type[IntFlag], value: int) -> list[str]:
    """Their names, and the number of what has none."""
    named = [flag for flag in flags if flag & value]
    rest = value & ~sum(named)
    return [*(flag.name or str(flag.value) for flag in named), *([str(rest)] if rest else [])]
