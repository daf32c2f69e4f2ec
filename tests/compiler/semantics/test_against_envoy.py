"""The real Envoy is the oracle: the same route configurations and requests, the same cluster or the same reply.

ROUTE_SEED repeats a run, ROUTE_CASES makes it longer. A case that fails is made small and written to
tests/golden/routes, to be fixed and kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.support.route_case_tables import TABLES
from tests.support.route_cases import make_case, read_case, shrink_once, write_case
from tests.support.route_oracle import Answer, Case, answer_here, ask_envoy

GOLDEN = Path(__file__).parents[2] / "golden" / "routes"
SEED = int(os.environ.get("ROUTE_SEED") or SystemRandom().randrange(2**32))
CASES = int(os.environ.get("ROUTE_CASES") or 200)
_SHRUNK_AT_ONCE = 200


def find_differences(cases: list[Case]) -> list[tuple[Case, Answer | None, Answer]]:
    """One case for each request that is answered differently: (case with that request, here, Envoy's)."""
    out = []
    for case, (port, answers) in zip(cases, ask_envoy(cases), strict=True):
        for request, here, envoy in zip(case.requests, answer_here(case, port), answers, strict=True):
            if here is None or not here.agrees_with(envoy):
                out.append((Case(routes=case.routes, options=case.options, requests=(request,)), here, envoy))
    return out


def shrink(case: Case) -> Case:
    """A case that still fails and has no part that could be left out."""
    while smaller := find_differences(list(shrink_once(case))[:_SHRUNK_AT_ONCE]):
        case = smaller[0][0]
    return case


def test_generated_cases() -> None:
    print(f"ROUTE_SEED={SEED}")
    different = find_differences([make_case(Random(f"{SEED}/{number}")) for number in range(CASES)])
    if not different:
        return
    small = shrink(different[0][0])
    path = GOLDEN / f"found-{hashlib.sha256(repr(small).encode()).hexdigest()[:12]}.json"
    write_case(path, small)
    ((_, here, envoy),) = find_differences([small])
    pytest.fail(
        f"ROUTE_SEED={SEED}: {len(different)} answers differ; the first, made small, is in {path}\n"
        f"here {here}\nEnvoy {envoy}"
    )


def test_kept_cases() -> None:
    names = sorted(GOLDEN.glob("*.json"))
    assert names
    assert find_differences([read_case(name) for name in names]) == []


@pytest.mark.parametrize("cases", TABLES)
def test_tables(cases: Callable[[], Iterable[Case]]) -> None:
    assert find_differences(list(cases())) == []
