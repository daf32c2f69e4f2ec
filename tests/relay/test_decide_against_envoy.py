"""The real Envoy is the oracle: what goes on to which cluster, what comes back, and what is answered in its place.

RELAY_SEED repeats a run, RELAY_CASES makes it longer.
"""

from __future__ import annotations

import os
from random import Random, SystemRandom

from kmesh.relay.decide import Refused
from tests.support.relay_cases import make_relay_case
from tests.support.relay_oracle import Seen, ask_envoy, ask_relay
from tests.support.route_oracle import Case

SEED = int(os.environ.get("RELAY_SEED") or SystemRandom().randrange(2**32))
CASES = int(os.environ.get("RELAY_CASES") or 100)


def is_allowed(got: Seen | Refused, want: Seen) -> bool:
    """The same, but for a path with spaces: Envoy sends that on, and some server reads two requests in it."""
    return got == want or (got == Refused(feature="a rewrite to what is no path") and b" words" in want.sent[0])


def find_differences(cases: list[Case]) -> list[str]:
    out = []
    for case, (port, envoys) in zip(cases, ask_envoy(cases), strict=True):
        relayed = list(ask_relay(case, port, envoys))
        for request, got, want in zip(case.requests, relayed, envoys, strict=True):
            if not is_allowed(got, want):
                out.append(f"{request}\n  here  {got}\n  Envoy {want}\n  under {case.routes} {case.options}")
    return out


def test_generated_cases() -> None:
    differences = find_differences([make_relay_case(Random(f"{SEED}/{number}")) for number in range(CASES)])
    assert not differences, f"RELAY_SEED={SEED}: {len(differences)} differ, the first:\n{differences[0]}"
