"""The graph of a virtual host -> records, bottom up: a link is the digest of what it leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from kmesh.compiler.automata import Pattern, make_machine, pack_pages
from kmesh.compiler.choice_nodes import FANOUT, write_weighted
from kmesh.compiler.choice_nodes import Way as Entry
from kmesh.compiler.emit import LISTENER_DEPTH
from kmesh.compiler.ir import Share, ToCluster, Weighted
from kmesh.compiler.routes.bounds import RECORD_BYTES, check_bound
from kmesh.compiler.routes.ir import Graph, HandOver, Number, Split, Step, Take, Test, TestAll, Way
from kmesh.compiler.routes.unions import Patterns, Unions, find_bits
from kmesh.maps.image import MapName, Record
from kmesh.records.constants import Action, DecisionKind, LinkKind
from kmesh.records.digest import link_to, name_id
from kmesh.records.layout import DECISION, ID, ROUTE, TEST

__all__ = ["write_graph"]


def write_graph(graph: Graph, unions: Unions) -> tuple[int, tuple[Record, ...]]:
    """(link to its root, records). Raises: BoundExceeded."""
    writer = _Writer(unions=unions)
    for step in graph.steps:
        writer.links.append(writer.write(step))
    return writer.link(graph.root), writer.collect()


@dataclass(slots=True, kw_only=True)
class _Writer:
    unions: Unions
    links: list[int] = field(default_factory=list)
    """Of each step."""
    tables: dict[MapName, dict[bytes, bytes]] = field(default_factory=lambda: {name: {} for name in MapName})
    size: int = 0
    """Bytes in tables, but for nodes, which are no more than the shares that were asked for."""
    tested: dict[tuple[tuple[Pattern, int], ...], int] = field(default_factory=dict)
    """Ids of the automata of tests."""

    def collect(self) -> tuple[Record, ...]:
        return tuple((name, key, value) for name, table in self.tables.items() for key, value in table.items())

    def link(self, number: Number) -> int:
        return 0 if number is None else self.links[number]

    def write(self, step: Step) -> int:
        match step:
            case Take():
                return self.write_take(step)
            case TestAll():
                return self.write_tests(step)
            case Split():
                return self.write_split(step)
            case _:
                assert_never(step)

    def write_take(self, take: Take) -> int:
        way = self.write_way(take.way)
        otherwise = self.link(take.otherwise)
        record = ROUTE.pack(way.action, take.index, way.target, take.per_million, otherwise)
        return self.add(MapName.ROUTE, LinkKind.ROUTE, record)

    def write_tests(self, step: TestAll) -> int:
        tests = b"".join(map(self.pack_test, step.tests))
        links = b"".join(ID.pack(self.links[number]) for number in step.links)
        record = DECISION.pack(DecisionKind.TEST, len(step.tests), self.link(step.next), tests, links)
        return self.add(MapName.DECISION, LinkKind.DECISION, record)

    def write_split(self, split: Split) -> int:
        links = {vector: self.links[number] for vector, number in split.links}
        automaton = self.write_automaton(split.patterns, lambda vector: links.get(vector, 0)) if split.patterns else 0
        test = TEST.pack(split.field.id, automaton, 0, self.link(split.absent))
        record = DECISION.pack(DecisionKind.SPLIT, 1, self.link(split.next), test, b"")
        return self.add(MapName.DECISION, LinkKind.DECISION, record)

    def pack_test(self, test: Test) -> bytes:
        return TEST.pack(test.field.id, self.write_tested(test), test.inverted, test.absent)

    def write_tested(self, test: Test) -> int:
        if not test.patterns:
            return 0
        if test.patterns not in self.tested:
            patterns = tuple(pattern for pattern, _ in test.patterns)
            bits = [of_pattern for _, of_pattern in test.patterns]
            self.tested[test.patterns] = self.write_automaton(patterns, lambda vector: _join(bits, vector))
        return self.tested[test.patterns]

    def write_automaton(self, patterns: Patterns, output_of: Callable[[int], int]) -> int:
        packed = pack_pages(make_machine(self.unions.compile(patterns), output_of), self.unions.budget)
        for key, value in packed.records:
            self.put(MapName.PAGE, key, value)
        return packed.automaton

    def write_way(self, way: Way) -> Entry:
        match way:
            case ToCluster(name):
                return Entry(int(Action.CLUSTER), name_id("cluster", name))
            case Weighted(shares):
                return self.write_shares(shares)
            case HandOver(reason):
                return Entry(int(Action.HANDOVER), int(reason))
            case _:
                assert_never(way)

    def write_shares(self, shares: tuple[Share, ...]) -> Entry:
        ways = []
        for share in shares:
            assert isinstance(share.choice, ToCluster), "weighted clusters are clusters"
            ways.append(self.write_way(share.choice))
        root = write_weighted(self.tables[MapName.NODE], ways, [share.weight for share in shares])
        check_bound("weighted clusters", len(ways) if root.depth > LISTENER_DEPTH else 0, FANOUT**LISTENER_DEPTH)
        return root

    def add(self, name: MapName, kind: LinkKind, record: bytes) -> int:
        link = link_to(record, kind)
        self.put(name, ID.pack(link), record)
        return link

    def put(self, name: MapName, key: bytes, value: bytes) -> None:
        """Raises: BoundExceeded."""
        if key not in self.tables[name]:
            self.tables[name][key] = value
            self.size += len(value)
            check_bound("bytes of records", self.size, RECORD_BYTES)


def _join(bits: list[int], vector: int) -> int:
    joined = 0
    for number in find_bits(vector):
        joined |= bits[number]
    return joined
