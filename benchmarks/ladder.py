"""The ladder under the benchmarks: what each stage in the kernel costs alone, so that a regression names its stage.

`python -m benchmarks.ladder [--quick]`, as root. Rungs, each by BPF_PROG_TEST_RUN, in ns:

    empty program        returns at once: what any program costs; the rungs below are without it
    one hash lookup      a key as large as a frontend's, in a hash of the ladder's own
    full L4 decision     km_choose(): frontend, cluster, node, backend; of 1,000 services of 10 endpoints
    head reading         the head automaton over a request of 300 bytes, whose unit has 100 routes
    match                virtual host and route of that request, its head read
    head and match       both

Each round runs every rung once, in random order, repeated so often in one call; a rung is a mean of those, less what
handing it its case costs in the same round, and what is reported is the median of the rounds. One case is repeated,
so it is in the processor's caches. Answers are checked. "match" is "head and match" without "head reading".
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import htons
from typing import Any

from benchmarks.figures import print_table, say, summarize
from benchmarks.route_tables import Ask, Json, Shape, Table, write_head
from kmesh.compiler import Compiler
from kmesh.compiler.ir import Routing
from kmesh.compiler.routes.unit import compile_routing, routing_id
from kmesh.kernel import bpf
from kmesh.kernel.features import probe_features
from kmesh.kernel.mounts import require_bpffs
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import load
from kmesh.kernel.sources import program_text
from kmesh.kernel.tables import KernelTables
from kmesh.maps.apply import Applier
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.listener import Normalization
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Family, Reason
from kmesh.records.digest import name_id
from kmesh.records.layout import FRONTEND_KEY
from kmesh.xds.resources import cluster, endpoint, listener, route
from tests.support.bpf_programs import ETHERNET, Job, build_programs, run_program
from tests.support.match_harness import MatchHarness
from tests.support.mesh import generate_mesh
from tests.support.resources import encode
from tests.support.sandbox import BPFFS, Sandbox

__all__ = ["Plan", "measure_ladder", "print_ladder"]

EMPTY, LOOKUP, CHOOSE = "empty program", "one hash lookup", "full L4 decision"
HEAD, MATCH, BOTH = "head reading", "match", "head and match"
RUNGS = (EMPTY, LOOKUP, CHOOSE, HEAD, MATCH, BOTH)
_CASE = "case"
_PROGRAMS = {
    EMPTY: ("km_rung_empty", 0),
    _CASE: ("km_rung_case", 0),
    LOOKUP: ("km_rung_lookup", 0),
    CHOOSE: ("km_rung_choose", Reason.BALANCED),
}
"""Program, and what it returns."""
_VIP = SocketAddress.parse("10.96.0.10", 80)
_TABLE = Table(shape=Shape.ROUTES, size=100)
_HEAD_BYTES = 300
_PORT = 80
_MATCH_PHASE = struct.pack("<I", 1)
"""In the map of programs that the harness's programs call on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    services: int = 1000
    endpoints: int = 10
    rounds: int = 40
    repeat: int = 50_000


QUICK = Plan(rounds=10)


def measure_ladder(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples in ns, summaries and ratios to the empty program."""
    say("ladder: compile and load")
    samples: dict[str, list[float]] = {rung: [] for rung in RUNGS}
    with _put_in_force(plan) as (maps_dir, programs_dir):
        runs = {
            **_connect_rungs(plan, maps_dir, programs_dir / "rungs"),
            **_request_rungs(plan, maps_dir, programs_dir),
        }
        say(f"ladder: {plan.rounds} rounds of {plan.repeat} runs")
        for _ in range(plan.rounds):
            for rung, ns in _run_round(runs).items():
                samples[rung].append(ns)
    summaries = {rung: summarize(found) for rung, found in samples.items()}
    return {"plan": asdict(plan), **_compare(summaries), "samples_ns": samples, "summaries": summaries}


def print_ladder(result: dict[str, Any]) -> None:
    print("the ladder: ns of each stage alone, medians of rounds with their quartiles")
    found = result["summaries"]
    print_table(
        ["", "ns", "from", "to"],
        [[rung, *(f"{found[rung][name]:.1f}" for name in ("median", "q1", "q3"))] for rung in RUNGS],
    )


def _run_round(runs: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    found = {rung: runs[rung]() for rung in random.sample(list(runs), len(runs))}
    case = found.pop(_CASE)
    return found | {LOOKUP: found[LOOKUP] - case, CHOOSE: found[CHOOSE] - case, MATCH: found[BOTH] - found[HEAD]}


def _compare(summaries: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Ratios and their spreads, to the empty program."""
    name, base = f"ladder / {EMPTY}", summaries[EMPTY]
    others = [rung for rung in RUNGS if rung != EMPTY]
    return {
        "ratios": {name: {rung: round(summaries[rung]["median"] / base["median"], 3) for rung in others}},
        "spreads": {
            name: {rung: [summaries[rung]["q1"] / base["q3"], summaries[rung]["q3"] / base["q1"]] for rung in others}
        },
    }


# Rungs of a connect()


def _connect_rungs(plan: Plan, maps_dir: Path, programs_dir: Path) -> dict[str, Callable[[], float]]:
    names = [program for program, _ in _PROGRAMS.values()]
    text = f'{program_text()}\n#line 1 "ladder.c"\n{Path(__file__).with_name("ladder.c").read_text()}'
    folders = {"maps_dir": str(maps_dir), "programs_dir": str(programs_dir)}
    build_programs(Job(text=text, programs=names, maps=("km_rungs",), **folders))
    key = FRONTEND_KEY.pack(_VIP.addr16, htons(_VIP.port), Protocol.TCP)
    bpf.update(bpf.get_object(programs_dir / "km_rungs"), key, bytes(8))
    packet = ETHERNET + key + struct.pack("<I", Family.V4)

    def make_run(program: str, answer: int) -> Callable[[], float]:
        fd = bpf.get_object(programs_dir / program)

        def run() -> float:
            found = run_program(fd, packet, plan.repeat)
            assert found.returned == answer, f"{program} returned {found.returned}"
            return found.nanoseconds

        return run

    return {rung: make_run(program, answer) for rung, (program, answer) in _PROGRAMS.items()}


# Rungs of a request


def _request_rungs(plan: Plan, maps_dir: Path, programs_dir: Path) -> dict[str, Callable[[], float]]:
    """The head is read alone where the program that would match has an empty one in its place."""
    harness = MatchHarness(maps_dir, programs_dir / "harness")
    phases, match, empty = (
        bpf.get_object(programs_dir / path)
        for path in ("harness/km_phases", "harness/km_run_match", "rungs/km_rung_empty")
    )
    ask = _TABLE.ask("middle", _TABLE.size // 2)
    routing, head = routing_id(_TABLE.name), write_head(ask, _HEAD_BYTES)

    def run(program: int) -> float:
        bpf.update(phases, _MATCH_PHASE, struct.pack("<I", program))
        return harness.nanoseconds(routing, head, _PORT, plan.repeat)

    _check_match(harness, routing, head, ask)
    return {HEAD: lambda: run(empty), BOTH: lambda: run(match)}


def _check_match(harness: MatchHarness, routing: int, head: bytes, ask: Ask) -> None:
    found = harness.match(routing, head, port=_PORT)
    assert found.cluster == name_id("cluster", _cluster(ask.number)), f"{found} is not for route {ask.number}"


# What is in force


@contextmanager
def _put_in_force(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """Yields the folder of the maps, and the one that holds it, for folders of the ladder's own programs."""
    require_bpffs(BPFFS)
    with Sandbox() as sandbox:
        paths = InstancePaths(bpffs=BPFFS, instance=sandbox.instance)
        build = load(paths, probe_features())
        image = Compiler().compile(_make_snapshot(plan)).image
        Applier(KernelTables(build.maps_dir)).apply(MapImage({**image.fragments, **_compile_routes()}))
        yield build.maps_dir, paths.root


def _make_snapshot(plan: Plan) -> Snapshot:
    mesh = generate_mesh(plan.services, plan.endpoints)
    kinds = ((listener, mesh.listeners), (cluster, mesh.clusters), (endpoint, mesh.assignments))
    listeners, clusters, assignments = (
        dict(kind.TYPE.decode(message.SerializeToString()) for message in messages) for kind, messages in kinds
    )
    return Snapshot(listeners=listeners, clusters=clusters, assignments=assignments)


def _compile_routes() -> Mapping[tuple[str, str], Fragment]:
    config = route.TYPE.decode(encode("RDS", _TABLE.route_config(_answer)))[1]
    return dict(compile_routing(Routing(name=_TABLE.name, config=config, normalization=Normalization())).fragments)


def _answer(number: int) -> Json:
    return {"route": {"cluster": _cluster(number), "timeout": "0s"}}


def _cluster(number: int) -> str:
    """Of one route."""
    return f"cluster-{number:05}"


def main() -> None:
    print_ladder(measure_ladder(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
