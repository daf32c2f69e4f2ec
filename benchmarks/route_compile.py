"""What it costs to compile route configurations, and to compile one again of which one virtual host has changed.

`python -m benchmarks.route_compile [--quick]`. One listener takes its routes by RDS; the compiler gets whole
snapshots, as the bridge gives them. Every route leads to a cluster of its virtual host's own (of its own, in a table
of one virtual host), none of which exists: endpoints are not in the figures.

- build: the first snapshot, by a compiler that knows nothing, and the bytes of its records, keys and values.
- one change: a route of one virtual host leads to another cluster. RDS sends a route configuration whole, so it is
  decoded whole, and no object of it is the one before ("compile"); "compile kept" is given the objects of before
  for virtual hosts that are equal. Then the image is compared with the one before: records are what is written and
  deleted.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any, TypeVar

from benchmarks.figures import print_table, say, spread, summarize
from benchmarks.route_tables import Json, Shape, Table
from kmesh.compiler import Compiler
from kmesh.maps.diff import Delta, Ledger
from kmesh.maps.image import EMPTY, MapImage, MapName
from kmesh.model.listener import Listener
from kmesh.model.route import RouteConfiguration
from kmesh.model.snapshot import Snapshot
from kmesh.xds.resources import listener, route
from tests.support.resources import encode, http_manager
from tests.support.resources import listener as make_listener

__all__ = ["Plan", "measure_compile", "print_compile"]

_T = TypeVar("_T")
_COLLECT_AFTER = 50_000
"""As the bridge has it."""
_STEPS = ("decode", "compile", "compile kept", "diff")
_LARGE = (MapName.PAGE, MapName.ROUTE, MapName.DECISION, MapName.DOMAIN, MapName.INDEX)
_MAPS = (*_LARGE, MapName.ROUTES, MapName.ROUTING, MapName.NODE)
"""That hold what requests are matched by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    built: Sequence[Table] = (Table(shape=Shape.FIVES, size=1000), Table(shape=Shape.ROUTES, size=10_000))
    builds: int = 3
    changed: Sequence[int] = (10, 100, 1000, 10_000)
    """Virtual hosts of five routes."""
    changes: int = 20


QUICK = Plan(builds=1, changed=(10, 100, 1000), changes=5)


def measure_compile(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples and what the tables say."""
    gc.set_threshold(_COLLECT_AFTER)
    built = {table.name: _measure_build(table, plan.builds) for table in plan.built}
    changed = {size: _measure_changes(Table(shape=Shape.FIVES, size=size), plan.changes) for size in plan.changed}
    medians = {
        size: {step: statistics.median(found["ms"][step]) for step in _STEPS} for size, found in changed.items()
    }
    least = plan.changed[0]
    return {
        "plan": asdict(plan) | {"built": [table.name for table in plan.built]},
        "ratios": {
            f"one change, {step} / at {least} virtual hosts": {
                f"{size} virtual hosts": round(found[step] / medians[least][step], 2)
                for size, found in medians.items()
            }
            for step in _STEPS
        },
        "built": built,
        "changed": {str(size): found for size, found in changed.items()},
        "summaries": {
            str(size): {step: summarize(found["ms"][step]) for step in _STEPS} for size, found in changed.items()
        },
    }


def print_compile(result: dict[str, Any]) -> None:
    print("routes compiled; median (min to max); bytes of keys and values")
    print_table(
        ["", "seconds", "MiB in all", *(f"{name.value} KiB" for name in _LARGE), "records"],
        [
            [
                name,
                spread(found["seconds"], 2),
                f"{sum(found['bytes'].values()) / 2**20:.2f}",
                *(f"{found['bytes'][name.value] / 1024:.1f}" for name in _LARGE),
                sum(found["records"].values()),
            ]
            for name, found in result["built"].items()
        ],
    )
    print("one of so many virtual hosts changed; ms")
    print_table(
        ["virtual hosts of five routes", *_STEPS, "records written", "deleted"],
        [
            [size, *(spread(found["ms"][step], 2) for step in _STEPS), found["written"], found["deleted"]]
            for size, found in result["changed"].items()
        ],
    )


# What is compiled


def _make_snapshot(config: RouteConfiguration) -> Snapshot:
    rds = {"route_config_name": config.name, "config_source": {"ads": {}}}
    decoded = listener.TYPE.decode(encode("LDS", make_listener(http_manager(rds=rds))))[1]
    assert isinstance(decoded, Listener)
    return Snapshot(listeners={decoded.name: decoded}, route_configs={config.name: config})


def _decode(body: bytes) -> RouteConfiguration:
    decoded = route.TYPE.decode(body)[1]
    assert isinstance(decoded, RouteConfiguration)
    return decoded


def _encode(table: Table, turn: int = 0) -> bytes:
    """In every other turn a route in the middle leads to the cluster of its neighbour."""
    routes_per_host = 5 if table.shape is Shape.FIVES else 1
    moved = table.size // 2 * routes_per_host

    def answer(number: int) -> Json:
        group = number // routes_per_host
        cluster = f"cluster-{group - 1 if number == moved and turn % 2 else group:05}"
        return {"route": {"cluster": cluster, "timeout": "0s"}}

    return encode("RDS", table.route_config(answer))


# Building


def _measure_build(table: Table, builds: int) -> dict[str, Any]:
    say(f"routing: compile {table.name}")
    snapshot = _make_snapshot(_decode(_encode(table)))
    seconds = []
    image = EMPTY
    for _ in range(builds):
        taken_ms, compilation = _time_ms(lambda: Compiler().compile(snapshot))
        seconds.append(taken_ms / 1000)
        image = compilation.image
    return {"seconds": seconds, **_weigh(image)}


def _weigh(image: MapImage) -> dict[str, Mapping[str, int]]:
    """Bytes and numbers of records, by map."""
    tables = image.tables()
    return {
        "bytes": {name.value: sum(len(key) + len(value) for key, value in tables[name].items()) for name in _MAPS},
        "records": {name.value: len(tables[name]) for name in _MAPS},
    }


# One change


def _measure_changes(table: Table, changes: int) -> dict[str, Any]:
    say(f"routing: one change in {table.name}")
    bodies = [_encode(table, turn) for turn in (0, 1, 0)]
    decoded = [_time_ms(partial(_decode, body)) for body in bodies]
    first, *fresh = (config for _, config in decoded)
    snapshot = _make_snapshot(first)
    compiler = Compiler()
    ledger = Ledger(compiler.compile(snapshot).image)
    turns = {"compile": fresh, "compile kept": [_keep_unchanged(first, fresh[0]), first]}
    taken: dict[str, list[float]] = {step: [] for step in _STEPS}
    taken["decode"] = [ms for ms, _ in decoded]
    delta = Delta()
    for step, number in product(turns, range(changes)):
        config = turns[step][number % 2]
        after = Snapshot(listeners=snapshot.listeners, route_configs={config.name: config})
        compile_ms, compilation = _time_ms(partial(compiler.compile, after))
        diff_ms, delta = _time_ms(partial(ledger.advance, compilation.image))
        taken[step].append(compile_ms)
        taken["diff"].append(diff_ms)
    written = sum(len(delta.added[name]) + len(delta.replaced[name]) for name in MapName)
    return {"ms": taken, "written": written, "deleted": sum(map(len, delta.deleted.values()))}


def _keep_unchanged(before: RouteConfiguration, after: RouteConfiguration) -> RouteConfiguration:
    """`after`, with the virtual hosts of `before` where they are equal."""
    pairs = zip(before.virtual_hosts, after.virtual_hosts, strict=True)
    return replace(after, virtual_hosts=tuple(was if was == now else now for was, now in pairs))


def _time_ms(run: Callable[[], _T]) -> tuple[float, _T]:
    before = time.perf_counter()
    result = run()
    return (time.perf_counter() - before) * 1000, result


def main() -> None:
    print_compile(measure_compile(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
