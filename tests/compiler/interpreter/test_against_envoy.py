"""The real Envoy is the oracle of the compiled records too: where they do not hand a request over, its cluster.

ROUTE_SEED repeats a run, ROUTE_CASES makes it longer. A case that fails is made small and written to
tests/golden/routes, to be fixed and kept.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from kmesh.compiler.semantics import Request
from kmesh.records.constants import Handover
from tests.support.any_heads import HOSTILITIES, good_head
from tests.support.plain_route_cases import make_plain_case
from tests.support.route_case_tables import TABLES
from tests.support.route_cases import NO_TIMEOUT, make_case, read_case, shrink_once, write_case
from tests.support.route_oracle import (
    CLUSTERS,
    Answer,
    Case,
    ask_envoy,
    ask_head,
    fill_port,
    run_oracle,
    write_request,
)
from tests.support.route_records import NOT_FOUND, CompiledCase, Outcome, agrees_with_envoy

GOLDEN = Path(__file__).parents[2] / "golden" / "routes"
SEED = int(os.environ.get("ROUTE_SEED") or SystemRandom().randrange(2**32))
CASES = int(os.environ.get("ROUTE_CASES") or 100)
HEADS = int(os.environ.get("ROUTE_HEADS") or 25)
"""Of each kind of hostility."""
MAX_LINES = 100
"""Envoy answers 431 to more headers (max_headers_count); here they are not counted."""
_SHRUNK_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One request of one case."""

    case: Case
    request: Request
    outcome: Outcome
    envoy: Answer

    @property
    def agrees(self) -> bool:
        return agrees_with_envoy(self.outcome, self.envoy)

    @property
    def kind(self) -> str:
        return self.outcome.name if isinstance(self.outcome, Handover) else "decided"


def compare(cases: list[Case]) -> Iterator[Compared]:
    for case, (port, answers) in zip(cases, ask_envoy(cases), strict=True):
        compiled = CompiledCase(case=case)
        asked = zip(case.requests, fill_port(case.requests, port), answers, strict=True)
        for request, written, envoy in asked:
            outcome = compiled.match(write_request(written), port)
            yield Compared(case=case, request=request, outcome=outcome, envoy=envoy)


def find_differing(cases: list[Case]) -> list[Case]:
    """One case for each request that is answered differently, with that request."""
    return [
        Case(routes=found.case.routes, options=found.case.options, requests=(found.request,))
        for found in compare(cases)
        if not found.agrees
    ]


def shrink(case: Case) -> Case:
    """A case that still fails and has no part that could be left out."""
    while smaller := find_differing(list(shrink_once(case))[:_SHRUNK_AT_ONCE]):
        case = smaller[0]
    return case


def expect_agreement(found: list[Compared]) -> None:
    """Prints which shares of the requests were decided, and handed over for which reasons."""
    shares = Counter(compared.kind for compared in found)
    print(f"ROUTE_SEED={SEED}", *(f"{kind} {count / len(found):.1%}" for kind, count in shares.most_common()))
    wrong = [compared for compared in found if not compared.agrees]
    if not wrong:
        return
    first = wrong[0]
    small = shrink(Case(routes=first.case.routes, options=first.case.options, requests=(first.request,)))
    path = GOLDEN / f"found-{hashlib.sha256(repr(small).encode()).hexdigest()[:12]}.json"
    write_case(path, small)
    (last,) = compare([small])
    pytest.fail(
        f"ROUTE_SEED={SEED}: {len(wrong)} answers differ; the first, made small, is in {path}\n"
        f"records {last.outcome}\nEnvoy {last.envoy}"
    )


def make_cases(make: Callable[[Random], Case]) -> list[Case]:
    return [make(Random(f"{SEED}/{number}")) for number in range(CASES)]


def repeats_a_header(request: Request) -> bool:
    names = [name.lower() for name, _ in request.headers]
    return len(set(names)) < len(names)


def test_every_option() -> None:
    found = list(compare(make_cases(make_case)))
    expect_agreement(found)
    decided = [compared for compared in found if compared.kind == "decided" or compared.outcome in NOT_FOUND]
    assert len(decided) > 0.3 * len(found), "nearly everything is handed over"


def test_plain_routes() -> None:
    """Nothing of them is handed over but a header that came more than once."""
    found = list(compare(make_cases(make_plain_case)[: CASES // 2]))
    expect_agreement(found)
    handed_over = [
        compared for compared in found if isinstance(compared.outcome, Handover) and compared.outcome not in NOT_FOUND
    ]
    assert {compared.outcome for compared in handed_over} <= {Handover.REPEATED}
    assert all(repeats_a_header(compared.request) for compared in handed_over)
    assert len(handed_over) < 0.05 * len(found)


def test_kept_cases() -> None:
    names = sorted(GOLDEN.glob("*.json"))
    assert names
    assert find_differing([read_case(name) for name in names]) == []


@pytest.mark.parametrize("cases", TABLES)
def test_tables(cases: Callable[[], Iterable[Case]]) -> None:
    expect_agreement(list(compare(list(cases()))))


def test_odd_heads_that_are_routed() -> None:
    """Envoy sends to the same cluster whatever is routed here, and refuses none of it."""
    print(f"ROUTE_SEED={SEED}")
    random = Random(SEED)
    cases = [Case(routes=HEAD_ROUTES, options=options, requests=()) for options in ({}, EVERY_OPTION)]
    routed: Counter[str] = Counter()
    with run_oracle(cases) as ports:
        for port, case in zip(ports, cases, strict=True):
            compiled = CompiledCase(case=case)
            for name, head in odd_heads(random):
                outcome = compiled.carry(head, port)
                assert outcome is not Handover.BROKEN, head
                if not isinstance(outcome, Handover) and head.count(b"\n") <= MAX_LINES:
                    routed[name] += 1
                    envoy = ask_head(port, head)
                    assert agrees_with_envoy(outcome, envoy), f"{head!r}: here {outcome}, Envoy {envoy}"
    print(dict(routed))
    assert sum(routed.values()) > HEADS


def odd_heads(random: Random) -> Iterator[tuple[str, bytes]]:
    """(what was done to it, a head)."""
    for _ in range(HEADS):
        yield "good", good_head(random)
        for make_worse in HOSTILITIES:
            yield make_worse.__qualname__, make_worse(random, good_head(random))


def _hosts(*domains: str) -> list[dict[str, Any]]:
    """One virtual host for each, whose conditions lead each to another cluster."""
    matches: tuple[dict[str, Any], ...] = (
        {"headers": [{"name": "x-a", "string_match": {"exact": "a"}}]},
        {"headers": [{"name": "x-b", "string_match": {"prefix": "a"}}]},
        {"query_parameters": [{"name": "q", "string_match": {"suffix": "b"}}]},
        {"headers": [{"name": "accept", "string_match": {"contains": "b"}, "invert_match": True}]},
        {},
    )
    return [
        {
            "name": domain,
            "domains": [domain],
            "routes": [
                {
                    "match": {"prefix": "", **match},
                    "route": {"cluster": CLUSTERS[(turn + index) % len(CLUSTERS)], **NO_TIMEOUT},
                }
                for index, match in enumerate(matches)
            ],
        }
        for turn, domain in enumerate(domains)
    ]


HEAD_ROUTES = {"virtual_hosts": _hosts("a.x", "*.x", "b:81", "b", "[::1]", "a.*", "*")}
EVERY_OPTION = {
    "normalize_path": True,
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    "strip_any_host_port": True,
    "strip_trailing_host_dot": True,
}
