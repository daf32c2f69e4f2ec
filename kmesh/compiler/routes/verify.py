"""What must hold of a virtual host between passes. Tests check it after each; a violation is a bug of a pass.

- Candidates are in the order of their routes, ask nothing twice, and end with the first that takes all.
- A step leads only to steps before it, and no way has more steps than the kernel follows.
- A decision has the room of its record: tests, bits. A bit that means nothing in a test passes it.
- A split has a link for each set of patterns that can match, and none for the empty one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kmesh.compiler.routes.bounds import DECISION_BITS, DECISION_DEPTH, DECISION_TESTS
from kmesh.compiler.routes.ir import Candidate, Graph, Number, Split, Step, Take, Test, TestAll
from kmesh.compiler.routes.unions import Unions
from kmesh.model.match import MILLION

__all__ = ["find_violations_in_candidates", "find_violations_in_graph"]


def find_violations_in_candidates(candidates: Sequence[Candidate]) -> list[str]:
    """A sentence for each; empty for sound candidates."""
    return list(_check_candidates(candidates))


def find_violations_in_graph(graph: Graph, candidates: Sequence[Candidate], unions: Unions) -> list[str]:
    """Likewise, for the graph that decides about `candidates`."""
    return [*_check_ways(graph), *_check_steps(graph, candidates, unions)]


def _check_candidates(candidates: Sequence[Candidate]) -> Iterator[str]:
    indices = [candidate.index for candidate in candidates]
    if indices != sorted(set(indices)):
        yield f"candidates of the routes {indices}"
    for candidate in candidates:
        if not 1 <= candidate.per_million <= MILLION:
            yield f"candidate {candidate.index}: takes {candidate.per_million} of a million"
        if len(set(candidate.conditions)) < len(candidate.conditions):
            yield f"candidate {candidate.index}: a condition twice"
        if not candidate.conditions and candidate.is_certain and candidate is not candidates[-1]:
            yield f"candidate {candidate.index}: takes all, and others follow"


def _check_ways(graph: Graph) -> Iterator[str]:
    heights: list[int] = []
    for number, step in enumerate(graph.steps):
        targets = list(_targets(step))
        forward = [target for target in targets if target is not None and not 0 <= target < number]
        if forward:
            yield f"step {number}: leads to {forward}"
            return
        heights.append(1 + max((1 if target is None else heights[target] for target in targets), default=0))
    if graph.root is not None and graph.root != len(graph.steps) - 1:
        yield f"the root is {graph.root} of {len(graph.steps)} steps"
    if max(heights, default=0) > DECISION_DEPTH:
        yield f"a way of {max(heights)} steps"


def _targets(step: Step) -> Iterator[Number]:
    match step:
        case Take():
            yield from (step.otherwise,) if step.per_million < MILLION else ()
        case TestAll():
            yield from (*step.links, step.next)
        case Split():
            yield from (*(link for _, link in step.links), step.next, step.absent)


def _check_steps(graph: Graph, candidates: Sequence[Candidate], unions: Unions) -> Iterator[str]:
    by_index = {candidate.index: candidate for candidate in candidates}
    for number, step in enumerate(graph.steps):
        match step:
            case Take() if not 1 <= step.per_million <= MILLION:
                yield f"step {number}: takes {step.per_million} of a million"
            case Take() if step.per_million == MILLION and step.otherwise is not None:
                yield f"step {number}: takes all, and others follow"
            case TestAll():
                yield from (f"step {number}: {why}" for why in _check_tests(graph, step, by_index))
            case Split():
                yield from (f"step {number}: {why}" for why in _check_split(step, unions))
            case _:
                pass


def _check_tests(graph: Graph, step: TestAll, candidates: dict[int, Candidate]) -> Iterator[str]:
    if not 1 <= len(step.tests) <= DECISION_TESTS:
        yield f"{len(step.tests)} tests"
    if not 1 <= len(step.links) <= DECISION_BITS:
        yield f"{len(step.links)} links"
    takes = [graph.steps[link] for link in step.links]
    for test in step.tests:
        if _join(test) >> len(step.links):
            yield f"a test of {test.field} has bits without a link"
        for bit, take in enumerate(takes):
            if not isinstance(take, Take):
                yield f"bit {bit} leads to no route"
            elif not _asks(candidates[take.index], test) and not _passes(test, bit):
                yield f"bit {bit} is held to a condition on {test.field} that its route has not"


def _join(test: Test) -> int:
    joined = test.inverted | test.absent
    for _, bits in test.patterns:
        joined |= bits
    return joined


def _asks(candidate: Candidate, test: Test) -> bool:
    return any(condition.field == test.field for condition in candidate.conditions)


def _passes(test: Test, bit: int) -> bool:
    is_hit = any(bits >> bit & 1 for _, bits in test.patterns)
    return bool(test.inverted >> bit & 1) and bool(test.absent >> bit & 1) and not is_hit


def _check_split(split: Split, unions: Unions) -> Iterator[str]:
    vectors = [vector for vector, _ in split.links]
    possible = set(unions.compile(split.patterns).vectors) if split.patterns else set()
    if len(set(vectors)) < len(vectors) or set(vectors) != possible - {0}:
        yield f"links for {len(vectors)} sets of patterns, where {len(possible - {0})} can match"
