"""Broken candidates and graphs are found out."""

from __future__ import annotations

import pytest

from kmesh.compiler.automata import Budget, Kind, Text
from kmesh.compiler.ir import ToCluster
from kmesh.compiler.routes import ir
from kmesh.compiler.routes.unions import Unions
from kmesh.compiler.routes.verify import find_violations_in_candidates, find_violations_in_graph

WAY = ToCluster("a")
A = Text(kind=Kind.EXACT, text=b"/a")
IS_A = ir.Condition(field=ir.PATH, patterns=(A,))
HEADER = ir.FieldName(ir.FieldKind.HEADER, "x-a")
TAKE = ir.Take(index=0, way=WAY)
CANDIDATES = (ir.Candidate(index=0, conditions=(IS_A,), way=WAY),)


def ask(*tests: ir.Test, links: tuple[int, ...] = (0,), following: int | None = None) -> tuple[ir.Take, ir.TestAll]:
    return TAKE, ir.TestAll(tests=tests, links=links, next=following)


def make_test(field: ir.FieldName = ir.PATH, bits: int = 1, inverted: int = 0, absent: int = 0) -> ir.Test:
    return ir.Test(field=field, patterns=((A, bits),), inverted=inverted, absent=absent)


def split(*links: tuple[int, int]) -> tuple[ir.Take, ir.Split]:
    return TAKE, ir.Split(field=ir.PATH, patterns=(A,), links=links, next=None, absent=None)


chain = tuple(ir.Take(index=0, way=WAY, per_million=n + 1, otherwise=n - 1 if n else None) for n in range(16))


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param(ask(make_test()), None, id="sound_test"),
        pytest.param(split((1, 0)), None, id="sound_split"),
        pytest.param((), None, id="nothing"),
        pytest.param(chain[:15], None, id="fifteen"),
        pytest.param(chain, "a way of 17 steps", id="too_deep"),
        pytest.param(ask(make_test(), following=1), "step 1: leads to [1]", id="to_itself"),
        pytest.param(ask(), "step 1: 0 tests", id="no_test"),
        pytest.param(ask(*[make_test()] * 13), "step 1: 13 tests", id="too_many_tests"),
        pytest.param(ask(make_test(bits=3, inverted=2, absent=2)), "without a link", id="bit_without_link"),
        pytest.param(ask(make_test(HEADER)), "bit 0 is held to a condition", id="meaningless_bit"),
        pytest.param(split(), "links for 0 sets of patterns, where 1 can match", id="no_link"),
        pytest.param(split((1, 0), (0, 0)), "links for 2 sets of patterns", id="link_for_none"),
        pytest.param((ir.Take(index=0, way=WAY, per_million=0),), "takes 0 of a million", id="takes_none"),
        pytest.param((TAKE, ir.Take(index=0, way=WAY, otherwise=0)), "others follow", id="takes_all"),
    ],
)
def test_graphs(steps: tuple[ir.Step, ...], want: str | None) -> None:
    graph = ir.Graph(steps, len(steps) - 1 if steps else None)
    got = find_violations_in_graph(graph, CANDIDATES, Unions(budget=Budget()))
    assert any(want in violation for violation in got) if want else got == []


def candidate(index: int, *conditions: ir.Condition, per_million: int = 1_000_000) -> ir.Candidate:
    return ir.Candidate(index=index, conditions=conditions, per_million=per_million, way=WAY)


@pytest.mark.parametrize(
    ("candidates", "want"),
    [
        pytest.param((candidate(0, IS_A), candidate(2)), None, id="sound"),
        pytest.param((candidate(2, IS_A), candidate(0)), "routes [2, 0]", id="order"),
        pytest.param((candidate(0), candidate(1)), "candidate 0: takes all", id="behind_all"),
        pytest.param((candidate(0, IS_A, IS_A),), "a condition twice", id="twice"),
        pytest.param((candidate(0, per_million=0),), "takes 0 of a million", id="never"),
    ],
)
def test_candidates(candidates: tuple[ir.Candidate, ...], want: str | None) -> None:
    got = find_violations_in_candidates(candidates)
    assert any(want in violation for violation in got) if want else got == []
