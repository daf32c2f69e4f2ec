"""What matching a request costs, in the kernel and in the real Envoy, by the size of the route table.

`python -m benchmarks.route_match [--quick]`, as root. The same tables, the same requests: the first, the middle and
the last routes of a table, with a head of 300 bytes and one of 2 KB. All tables are in force at once, and each round
takes every point, in random order. Every answer is checked.

- kernel: ns per request of the matcher, from the first byte of the head to the cluster, as the program of
  tests.support.match_harness under BPF_PROG_TEST_RUN. Nothing is sent or received. One request is repeated, so all
  that it reads is in the processor's caches. "scattered" is one run each of requests to routes drawn at random, of
  one table after the other, with this process's own work between them: there a larger table costs misses.
- Envoy: CPU time per request (benchmarks.route_envoy), which has its socket I/O and HTTP codec in it; "routing" is
  what the last route adds over Envoy's own figure for a table of one.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from benchmarks.figures import print_table, say, summarize
from benchmarks.route_envoy import measure_envoy
from benchmarks.route_tables import HEAD_SIZES, PLACES, Json, Point, Shape, Table, list_points, write_head
from kmesh.compiler.ir import Routing
from kmesh.compiler.routes.unit import compile_routing, routing_id
from kmesh.kernel.features import probe_features
from kmesh.kernel.mounts import require_bpffs
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import load
from kmesh.kernel.tables import KernelTables
from kmesh.maps.apply import Applier
from kmesh.maps.image import MapImage
from kmesh.model.listener import Normalization
from kmesh.records.digest import name_id
from kmesh.xds.resources import route
from tests.support.match_harness import MatchHarness
from tests.support.resources import encode
from tests.support.sandbox import BPFFS, Sandbox

__all__ = ["Plan", "measure_match", "print_match"]

_PORT = 80
_BASE = 10
"""The size that others are compared with."""
_FLAT = 1.2
_WARM = "warm"
_SCATTERED = "scattered"
_Samples = Mapping[Point, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    sizes: Sequence[int] = (1, 10, 100, 1000, 10_000)
    rounds: int = 20
    repeat: int = 2000
    """Runs of the matcher for one sample."""
    scattered: int = 1000
    """Requests to any routes."""
    envoy_rounds: int = 10
    envoy_requests: int = 700
    """Of one round, for each place."""

    @property
    def tables(self) -> list[Table]:
        return [Table(shape=shape, size=size) for shape, size in product(Shape, self.sizes)]


QUICK = Plan(rounds=5, scattered=300, envoy_rounds=3, envoy_requests=300)


def measure_match(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples, summaries and ratios."""
    kernel, verified = _measure_kernel(plan)
    envoy = measure_envoy(plan.tables, plan.envoy_rounds, plan.envoy_requests)
    kinds = product(Shape, HEAD_SIZES, ((_WARM, PLACES), (_SCATTERED, (_SCATTERED,))))
    return {
        "plan": asdict(plan),
        "targets": {f"{_WARM} / at {_BASE}": f"<= {_FLAT} up to {plan.sizes[-1]}"},
        "ratios": {
            f"{shape.value}, {head} bytes, {kind} / at {_BASE}": {
                str(size): round(ratio, 3) for size, ratio in _compare(plan, kernel, shape, head, places).items()
            }
            for shape, head, (kind, places) in kinds
        },
        "verified_instructions": verified,
        "kernel_ns": {str(point): samples for point, samples in kernel.items()},
        "envoy_us": {str(point): samples for point, samples in envoy.items()},
        "summaries": {
            name: {str(point): summarize(values) for point, values in samples.items()}
            for name, samples in (("kernel ns", kernel), ("Envoy us", envoy))
        },
        "tables": {str(head): list(_list_rows(plan, kernel, envoy, head)) for head in HEAD_SIZES},
    }


def print_match(result: dict[str, Any]) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in result["verified_instructions"].items())
    print(f"matching a request; instructions verified: {counts}")
    base = f"/ at {_BASE}"
    columns = ["kernel ns", base, _SCATTERED, base, *(f"Envoy us: {place}" for place in PLACES), "routing"]
    for head, rows in result["tables"].items():
        print_table([f"head of {head} bytes", *columns], rows)


def _list_rows(plan: Plan, kernel: _Samples, envoy: _Samples, head: int) -> Iterator[list[str]]:
    for shape in Shape:
        warm = _compare(plan, kernel, shape, head, PLACES)
        scattered = _compare(plan, kernel, shape, head, (_SCATTERED,))
        alone = _median(envoy, Table(shape=shape, size=plan.sizes[0]), head, PLACES)
        for size in plan.sizes:
            table = Table(shape=shape, size=size)
            by_place = [_median(envoy, table, head, (place,)) for place in PLACES]
            yield [
                table.name,
                f"{_median(kernel, table, head, PLACES):.0f}",
                f"{warm[size]:.2f}",
                f"{_median(kernel, table, head, (_SCATTERED,)):.0f}",
                f"{scattered[size]:.2f}",
                *(f"{cpu_us:.1f}" for cpu_us in by_place),
                f"{by_place[-1] - alone:+.1f}",
            ]


def _compare(plan: Plan, samples: _Samples, shape: Shape, head: int, places: Sequence[str]) -> dict[int, float]:
    """The median by size, over that of _BASE."""
    medians = {size: _median(samples, Table(shape=shape, size=size), head, places) for size in plan.sizes}
    return {size: median / medians[_BASE] for size, median in medians.items()}


def _median(samples: _Samples, table: Table, head: int, places: Sequence[str]) -> float:
    return statistics.median(value for place in places for value in samples[Point(table.name, head, place)])


# In the kernel


def _measure_kernel(plan: Plan) -> tuple[dict[Point, list[float]], dict[str, int]]:
    """(ns per request, the median of the requests of a point, for each round, and of scattered ones each;
    instructions verified by program)."""
    samples: dict[Point, list[float]] = {}
    points = list(list_points(plan.tables))
    with _put_in_force(plan.tables) as harness:
        for number in range(plan.rounds):
            say(f"routing: kernel, round {number + 1}/{plan.rounds}")
            random.shuffle(points)
            for point, asks in points:
                found = [_time(harness, point, write_head(ask, point.head), ask.number, plan.repeat) for ask in asks]
                samples.setdefault(point, []).append(statistics.median(found))
        say("routing: kernel, scattered")
        samples |= _time_scattered(harness, plan)
        return samples, harness.verified_instructions()


def _time(harness: MatchHarness, point: Point, head: bytes, number: int, repeat: int) -> float:
    routing = routing_id(point.table)
    cluster = harness.match(routing, head, port=_PORT).cluster
    assert cluster == name_id("cluster", _cluster(number)), f"{point}: another cluster took route {number}"
    return harness.nanoseconds(routing, head, port=_PORT, repeat=repeat)


def _time_scattered(harness: MatchHarness, plan: Plan) -> dict[Point, list[float]]:
    """Of one table after the other."""
    samples: dict[Point, list[float]] = {}
    for _, table, head in product(range(plan.scattered), plan.tables, HEAD_SIZES):
        ask = table.ask(_SCATTERED, random.randrange(table.size))
        taken = harness.nanoseconds(routing_id(table.name), write_head(ask, head), port=_PORT, repeat=1)
        samples.setdefault(Point(table.name, head, _SCATTERED), []).append(taken)
    return samples


@contextmanager
def _put_in_force(tables: Sequence[Table]) -> Iterator[MatchHarness]:
    require_bpffs(BPFFS)
    with Sandbox() as sandbox:
        paths = InstancePaths(bpffs=BPFFS, instance=sandbox.instance)
        build = load(paths, probe_features())
        say(f"routing: compile {len(tables)} tables")
        Applier(KernelTables(build.maps_dir)).apply(_compile(tables))
        yield MatchHarness(build.maps_dir, paths.root / "harness")


def _compile(tables: Sequence[Table]) -> MapImage:
    fragments = {}
    for table in tables:
        config = route.TYPE.decode(encode("RDS", table.route_config(_answer)))[1]
        unit = compile_routing(Routing(name=table.name, config=config, normalization=Normalization()))
        fragments.update(unit.fragments)
    return MapImage(fragments)


def _answer(number: int) -> Json:
    return {"route": {"cluster": _cluster(number), "timeout": "0s"}}


def _cluster(number: int) -> str:
    """Of one route."""
    return f"cluster-{number:05}"


def main() -> None:
    print_match(measure_match(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
