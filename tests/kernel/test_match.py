"""The kernel's matcher equals the reference interpreter's, head by head, on compiled and on unsound records.

`MATCH_COMPARISONS=1000000` runs that many (nightly) instead of 20,000; a failure names the seed of its tables.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from random import Random
from typing import Any

import pytest

from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.reference import Tables
from kmesh.compiler.routes.unit import routing_id
from kmesh.kernel.features import probe_features
from kmesh.maps.image import EMPTY, Fragment, MapImage, MapName
from kmesh.records.constants import LIMITS, Handover
from kmesh.records.digest import name_id
from tests.kernel.conftest import Kernel, open_kernel
from tests.support.any_heads import any_head, good_head
from tests.support.any_tables import any_draw
from tests.support.match_harness import DRAWS, MatchHarness
from tests.support.route_case_tables import choose, one_host
from tests.support.route_cases import NO_TIMEOUT, make_case
from tests.support.route_oracle import Case
from tests.support.route_records import CompiledCase
from tests.support.sandbox import Sandbox

COMPARISONS = int(os.environ.get("MATCH_COMPARISONS", "20000"))
ENOUGH = 10_000
"""To meet all reasons but RARE ones."""
HEADS = 50
"""Compared over one configuration: each costs 1 ms, the configuration 30."""
PORTS = (80, 81)
REQUESTS = 10_000
"""That are split."""
ROUTING = routing_id("case")
VERIFIED = 200_000
"""Instructions that the verifier may walk in one program; a kernel takes a million."""
LONG = 700
"""Bytes of a head that may take more bursts than there are tail calls: when all of them are tabs in a value."""
OF_STREAMS = {Handover.NO_CONNECTION, Handover.PIPELINED, Handover.UNREAD}
"""Reasons that no matching comes to."""
RARE = {Handover.WAYPOINT, Handover.REFUSED, Handover.BOUND, Handover.BROKEN, Handover.STEPS}
"""Reasons that compiled routes need not come to."""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """An instance for this module alone: unsound tables are no one else's to build on."""
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())


@pytest.fixture(scope="module")
def harness(kernel: Kernel) -> MatchHarness:
    return MatchHarness(kernel.build.maps_dir, kernel.paths.root / "match-harness")


def put(kernel: Kernel, tables: Tables) -> None:
    """In place of the ones before: those may have other bytes under the same keys."""
    kernel.applier.apply(EMPTY)
    fragment = Fragment({name: dict(table) for name, table in tables.items()})
    kernel.applier.apply(MapImage({("test", "tables"): fragment}))


def compare(harness: MatchHarness, tables: Tables, head: bytes, port: int, draws: list[int]) -> Handover:
    """One request by both; returns why it is handed over. Only the kernel runs out of steps."""
    left = iter(draws)
    want = match_request(tables, ROUTING, head, port=port, draw=left.__next__, cursors={})
    got = harness.match(ROUTING, head, port, draws)
    case = f"{head!r} {port=} {draws=}"
    if got.handover == Handover.STEPS:
        assert len(head) > LONG, case
        return Handover.STEPS
    assert Handover(got.handover) is want.handover, case
    assert got.draws_taken == DRAWS - len(list(left)), case
    if want.handover is Handover.NONE:
        assert (got.route, got.cluster) == (want.route, want.cluster), case
    return want.handover


def compare_many(kernel: Kernel, harness: MatchHarness, tables: Tables, random: Random) -> Counter[Handover]:
    put(kernel, tables)
    reasons: Counter[Handover] = Counter()
    for _ in range(HEADS):
        head = random.choice((any_head, good_head))(random)
        draws = [any_draw(random) for _ in range(DRAWS)]
        reasons[compare(harness, tables, head, random.choice(PORTS), draws)] += 1
    return reasons


def test_compiled_routes(kernel: Kernel, harness: MatchHarness) -> None:
    reasons: Counter[Handover] = Counter()
    for seed in seeds(COMPARISONS // 2 // HEADS):
        random = Random(seed)
        with naming(seed):
            reasons += compare_many(kernel, harness, CompiledCase(case=make_case(random)).tables, random)
    assert COMPARISONS < ENOUGH or set(Handover) - set(reasons) <= RARE | OF_STREAMS
    assert not OF_STREAMS & set(reasons)


def test_unsound_routes(kernel: Kernel, harness: MatchHarness) -> None:
    """Never anything but the interpreter's outcome, whatever is in the maps."""
    reasons: Counter[Handover] = Counter()
    for seed in seeds(COMPARISONS // 2 // HEADS):
        random = Random(seed)
        with naming(seed):
            tables = spoil(CompiledCase(case=make_case(random)).tables, random)
            reasons += compare_many(kernel, harness, tables, random)
    assert COMPARISONS < ENOUGH or {Handover.NONE, Handover.BROKEN} <= set(reasons)


def seeds(count: int) -> range:
    first = Random().getrandbits(32)
    return range(first, first + count)


class naming:
    """Context manager: a failure tells the seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error:
            error.add_note(f"seed of the tables: {self.seed}")


def spoil(tables: Tables, random: Random) -> Tables:
    """One record in twenty is missing, one in ten has a bit flipped, often near its beginning."""
    out: dict[MapName, dict[bytes, bytes]] = {}
    for name, table in tables.items():
        out[name] = {}
        for key, value in table.items():
            chance = random.random()
            if chance >= 0.05:
                out[name][key] = flip_bit(value, random) if chance < 0.15 else value
    return out


def flip_bit(value: bytes, random: Random) -> bytes:
    bit = 1 << random.randrange(8 * random.choice((len(value), min(len(value), 64))))
    return (int.from_bytes(value, "little") ^ bit).to_bytes(len(value), "little")


HEAD = b"GET /a/b?q=1&r HTTP/1.1\r\nHost: a.x:80\r\nx-a:\t b \t\r\naccept: *\r\nx-c:\r\n\r\n"


@pytest.fixture
def sample(kernel: Kernel) -> Tables:
    """Looks at a header and a parameter."""
    match = {"headers": [{"name": "x-a", "string_match": {"exact": "b"}}], "query_parameters": [{"name": "q"}]}
    tables = CompiledCase(case=Case(routes=choose(**match), requests=())).tables
    put(kernel, tables)
    return tables


def test_heads_that_are_cut(harness: MatchHarness, sample: Tables) -> None:
    got = [compare(harness, sample, HEAD[:length], 80, [0] * DRAWS) for length in range(len(HEAD) + 1)]
    assert got == [Handover.INCOMPLETE] * len(HEAD) + [Handover.NONE]


def test_each_byte_at_each_place(harness: MatchHarness, sample: Tables) -> None:
    for place in range(len(HEAD)):
        for byte in (*b"\0\t\n\r :.&=?%A[\x7f\x80", HEAD[place] ^ 0x20):
            head = HEAD[:place] + bytes((byte,)) + HEAD[place + 1 :]
            compare(harness, sample, head, 80, [0] * DRAWS)


@pytest.mark.parametrize("blanks", [0, 1, 15, 16, 17, 18, 40])
def test_blanks_behind_a_value(harness: MatchHarness, sample: Tables, blanks: int) -> None:
    for blank in (b" ", b"\t"):
        head = HEAD.replace(b"b \t\r", b"b" + blank * blanks + b"\r")
        compare(harness, sample, head, 80, [0] * DRAWS)


@pytest.mark.parametrize("over", range(-20, 20))
def test_heads_as_long_as_they_may_be(harness: MatchHarness, sample: Tables, over: int) -> None:
    head = HEAD.replace(b"*", b"*" * (LIMITS["HEAD_BYTES"] - len(HEAD) + 1 + over))
    want = Handover.HEAD_SIZE if over > 0 else Handover.NONE
    assert compare(harness, sample, head + b"body", 80, [0] * DRAWS) is want


def test_values_of_all_lengths(harness: MatchHarness, sample: Tables) -> None:
    """Skipped by eight bytes at a time, to a control byte in any of eight places."""
    for length in range(1, 300):
        head = HEAD.replace(b"*", b"\xff" * length)
        assert compare(harness, sample, head, 80, [0] * DRAWS) is Handover.NONE, length


@pytest.mark.parametrize(
    ("made", "want"),
    [
        pytest.param(b"x-z: a" + b"\tb" * 700, Handover.NONE, id="tabs"),
        pytest.param(b"x-z: a" + b"\tb" * 800, Handover.STEPS, id="too many tabs"),
        pytest.param(b"x-b: " + b"a" * 5000 + b"b", Handover.NONE, id="value"),
        pytest.param(b"x-b: " + b"a" * 7000 + b"b", Handover.STEPS, id="too long a value"),
    ],
)
def test_steps_run_out(kernel: Kernel, harness: MatchHarness, made: bytes, want: Handover) -> None:
    """In reading and in deciding."""
    routes = choose(headers=[{"name": "x-b", "string_match": {"suffix": "b"}}])
    tables = CompiledCase(case=Case(routes=routes, requests=())).tables
    put(kernel, tables)
    assert compare(harness, tables, HEAD.replace(b"accept: *", made), 80, [0] * DRAWS) is want


@pytest.mark.parametrize(
    "weights",
    [(1, 1), (1, 2, 7), (0, 5, 0, 995), range(1, 101)],
    ids=["halves", "uneven", "with none", "more than a node holds"],
)
def test_weighted_clusters(kernel: Kernel, harness: MatchHarness, weights: Sequence[int]) -> None:
    clusters = [{"name": f"c{number}", "weight": weight} for number, weight in enumerate(weights)]
    action = {"weighted_clusters": {"clusters": clusters}, **NO_TIMEOUT}
    routes = one_host({"match": {"prefix": "/"}, "route": action})
    want = {name_id("cluster", f"c{number}"): weight for number, weight in enumerate(weights) if weight}
    assert_shares(count_clusters(kernel, harness, routes), want)


def test_runtime_fractions(kernel: Kernel, harness: MatchHarness) -> None:
    routes = choose(runtime_fraction={"default_value": {"numerator": 30, "denominator": "HUNDRED"}})
    want = {name_id("cluster", "c0"): 30, name_id("cluster", "c1"): 70}
    assert_shares(count_clusters(kernel, harness, routes), want)


def count_clusters(kernel: Kernel, harness: MatchHarness, routes: dict[str, Any]) -> Counter[int]:
    """Of requests whose draws are random; each goes where the interpreter sends it."""
    tables = CompiledCase(case=Case(routes=routes, requests=())).tables
    put(kernel, tables)
    random, head = Random(10), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    counts: Counter[int] = Counter()
    for _ in range(REQUESTS):
        draws = [random.getrandbits(32) for _ in range(DRAWS)]
        want = match_request(tables, ROUTING, head, port=80, draw=iter(draws).__next__, cursors={})
        got = harness.match(ROUTING, head, 80, draws)
        assert (got.handover, got.cluster) == (want.handover, want.cluster), draws
        counts[got.cluster] += 1
    return counts


def assert_shares(counts: Counter[int], weights: Mapping[int, int]) -> None:
    """What was counted is as weighted: chi-squared is within three standard deviations of what chance makes it."""
    total, deviation = sum(weights.values()), 0.0
    assert set(counts) <= set(weights)
    for cluster, weight in weights.items():
        want = REQUESTS * weight / total
        deviation += (counts[cluster] - want) ** 2 / want
    freedom = len(weights) - 1
    assert deviation <= freedom + 3 * sqrt(2 * freedom)


def test_what_verifying_takes(harness: MatchHarness) -> None:
    got = harness.verified_instructions()
    assert max(got.values()) <= VERIFIED, got
