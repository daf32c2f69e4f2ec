"""Candidates -> the graph of steps that finds the first whose conditions hold.

    0: path exact "/a", header x-b present -> one    0: take 0 -> one
    1: path exact "/a" -> two                        1: take 1 -> two
    and more paths than one decision has room for    2: test header x-b: 0 present; links 0, 1
    99: always -> three                              3: take 99 -> three
                                                     ...
                                                     99: split by path, next 3: exact "/a" -> 2, ...

What is left to ask of a list of candidates depends on the fields that splits above have settled. A list that
fits one decision is tested; a longer one is split by a field, whose conditions are then settled below. What no field
tells apart is tested in turns. Equal steps are one, and equal lists are decided once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from kmesh.compiler.routes.assign_tests import assign_tests
from kmesh.compiler.routes.bounds import DECISION_BITS, DECISION_DEPTH, DECISION_TESTS, check_bound
from kmesh.compiler.routes.ir import (
    PATH,
    Candidate,
    Condition,
    FieldName,
    Graph,
    HandOver,
    Number,
    Split,
    Step,
    Take,
    Test,
    TestAll,
)
from kmesh.compiler.routes.partition import Partition, Row, partition_candidates
from kmesh.compiler.routes.unions import Unions
from kmesh.model.match import MILLION
from kmesh.records.constants import Handover

__all__ = ["decide"]

_WORK_OF_A_DECISION = 50
"""Steps."""
_STEPS = "steps on one way"
_TRIED_FIELDS = 4
"""To split by: the path, and those that most candidates look at."""
_Rows = list[tuple[Condition, ...]]
"""Of each candidate, what is to be asked of it."""
_NO_ROUTE = Take(index=0, way=HandOver(Handover.NO_ROUTE))


def decide(candidates: tuple[Candidate, ...], unions: Unions) -> Graph:
    """Raises: BoundExceeded."""
    builder = _Builder(candidates=candidates, unions=unions)
    root = builder.build(_List(tuple(range(len(candidates))), frozenset()), 0)
    return Graph(tuple(builder.numbers), root)


@dataclass(frozen=True, slots=True)
class _List:
    """What is still to be decided: the first of these candidates."""

    numbers: tuple[int, ...]
    settled: frozenset[FieldName]
    """Fields whose conditions all of them meet."""
    is_solid: bool = False
    """No field tells them apart: they are tested in turns."""

    def behind(self, count: int) -> _List:
        return replace(self, numbers=self.numbers[count:])


@dataclass(slots=True, kw_only=True)
class _Builder:
    candidates: tuple[Candidate, ...]
    unions: Unions
    numbers: dict[Step, int] = field(default_factory=dict)
    """Of steps, each once, in order."""
    heights: list[int] = field(default_factory=list)
    """Of each step: how many are on the longest way from it, itself and the end without a route included."""
    built: dict[_List, Number] = field(default_factory=dict)

    def build(self, wanted: _List, depth: int) -> Number:
        """The step for a list that is reached after `depth` others."""
        check_bound(_STEPS, depth + 1, DECISION_DEPTH)
        if wanted not in self.built:
            self.built[wanted] = self.make(wanted, depth)
        number = self.built[wanted]
        check_bound(_STEPS, depth + self.height(number), DECISION_DEPTH)
        return number

    def make(self, wanted: _List, depth: int) -> Number:
        if not wanted.numbers:
            return None
        rows = self.find_rows(wanted)
        if not rows[0]:
            return self.take(wanted, 0, depth)
        tests = self.fit(rows)
        if tests is None:
            split = None if wanted.is_solid else self.split(wanted, depth)
            if split is not None:
                return split
            wanted = replace(wanted, is_solid=True)
            check_bound(_STEPS, depth + len(rows) // DECISION_BITS + 1, DECISION_DEPTH)
            rows, tests = self.fit_first(rows)
        links = tuple(self.take(wanted, place, depth + 1) for place in range(len(rows)))
        rest = self.build(wanted.behind(len(rows)), depth + 1) if rows[-1] else None
        return self.add(TestAll(tests=tests, links=links, next=rest))

    def find_rows(self, wanted: _List) -> _Rows:
        """What is to ask of each candidate, up to the first of which nothing is."""
        rows = []
        for number in wanted.numbers:
            rows.append(self.open(number, wanted.settled))
            if not rows[-1]:
                break
        return rows

    def open(self, number: int, settled: frozenset[FieldName]) -> tuple[Condition, ...]:
        """The conditions of a candidate that are not settled."""
        self.unions.budget.spend(1)
        return tuple(c for c in self.candidates[number].conditions if c.field not in settled)

    def take(self, wanted: _List, place: int, depth: int) -> int:
        """Take the candidate at that place; those behind it are for whom chance does not favour."""
        candidate = self.candidates[wanted.numbers[place]]
        otherwise = None if candidate.is_certain else self.build(wanted.behind(place + 1), depth + 1)
        return self.add(
            Take(index=candidate.index, way=candidate.way, per_million=candidate.per_million, otherwise=otherwise)
        )

    def fit(self, rows: _Rows) -> tuple[Test, ...] | None:
        """The tests of one decision, None where they have no room."""
        if len(rows) > DECISION_BITS:
            return None
        tests = assign_tests(rows, self.unions)
        check_bound("tests for one route", len(tests) if len(rows) == 1 else 0, DECISION_TESTS)
        return tests if len(tests) <= DECISION_TESTS else None

    def fit_first(self, rows: _Rows) -> tuple[_Rows, tuple[Test, ...]]:
        """As many of the first candidates as have room, and their tests."""
        rows = rows[:DECISION_BITS]
        while (tests := self.fit(rows)) is None:
            rows = rows[: len(rows) // 2]
        return rows, tests

    def split(self, wanted: _List, depth: int) -> int | None:
        """By the path if that halves the longest list, else by the first field that does, else as well as may be."""
        best: Partition | None = None
        for name in self.rank_fields(wanted)[:_TRIED_FIELDS]:
            partition = partition_candidates(tuple(self.find_askers(wanted, name)), name, self.unions)
            if partition and partition.longest < (best.longest if best else len(wanted.numbers)):
                best = partition
                if partition.longest <= len(wanted.numbers) // 2:
                    break
        return self.add_split(wanted, best, depth) if best else None

    def rank_fields(self, wanted: _List) -> Sequence[FieldName]:
        """Fields that candidates look at, first the path, then by how many do."""
        uses: dict[FieldName, int] = {}
        for number in wanted.numbers:
            for name in dict.fromkeys(condition.field for condition in self.open(number, wanted.settled)):
                uses[name] = uses.get(name, 0) + 1
        return sorted(uses, key=lambda name: (name != PATH, -uses[name]))

    def find_askers(self, wanted: _List, name: FieldName) -> Iterator[Row]:
        for number in wanted.numbers:
            conditions = self.open(number, wanted.settled)
            asked = tuple(condition for condition in conditions if condition.field == name)
            ends_lists = len(asked) == len(conditions) and self.candidates[number].is_certain
            yield Row(number, asked, ends_lists)

    def add_split(self, wanted: _List, partition: Partition, depth: int) -> int:
        settled = wanted.settled | {partition.field}
        (_, unmatched), *lists = partition.lists
        absent = self.build(_List(partition.absent, settled), depth + 1)
        rest = self.build(_List(unmatched, settled), depth + 1)
        links = [(vector, self.build(_List(numbers, settled), depth + 1)) for vector, numbers in lists]
        return self.add(
            Split(
                field=partition.field,
                patterns=partition.patterns,
                links=tuple((vector, self.add(_NO_ROUTE) if link is None else link) for vector, link in links),
                next=rest,
                absent=absent,
            )
        )

    def add(self, step: Step) -> int:
        """Raises: BoundExceeded."""
        if step not in self.numbers:
            self.numbers[step] = len(self.numbers)
            self.heights.append(1 + self.find_height(step))
            if not isinstance(step, Take):
                self.unions.budget.spend(_WORK_OF_A_DECISION)
        return self.numbers[step]

    def height(self, number: Number) -> int:
        return 1 if number is None else self.heights[number]

    def find_height(self, step: Step) -> int:
        """Of the highest step that it leads to."""
        match step:
            case Take(per_million=per_million, otherwise=otherwise):
                return self.height(otherwise) if per_million < MILLION else 0
            case TestAll(links=links):
                return max(self.height(link) for link in (*links, step.next))
            case Split(links=links):
                return max(self.height(link) for link in (*(link for _, link in links), step.next, step.absent))
