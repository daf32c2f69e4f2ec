"""The other sections: bootstrap, pods, convergence, connect(), matching, compiling, the ladder."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report.charts import Axis, bar_chart, line_chart
from benchmarks.report.markup import Element, element, table

__all__ = [
    "show_bootstrap",
    "show_compile",
    "show_connect",
    "show_convergence",
    "show_ladder",
    "show_match",
    "show_pods",
]

_Json = dict[str, Any]
_POINT = re.compile(r"(\d+) (.+), head of (\d+), (\w+)")
_SCATTERED = "scattered"


def show_bootstrap(found: _Json) -> Iterator[Element | None]:
    medians = {name: {"": summary["median"]} for name, summary in found["summaries"].items()}
    yield _charts(bar_chart("Until the first answer", medians, Axis(unit="ms")))
    yield _table_of_spreads("ms", found["summaries"])


def show_pods(found: _Json) -> Iterator[Element | None]:
    charts = []
    for mesh, sides in found["bytes"].items():
        counts = sorted({count for by in sides.values() for count in by}, key=int)
        series = {
            f"{side}, {kind.upper()}": [_mebibytes(by.get(count), kind) for count in counts]
            for side, by in sides.items()
            for kind in ("pss", "rss")
        }
        charts.append(line_chart(f"{mesh}; by pods", counts, series, Axis(unit="MiB", is_log=True)))
    yield _charts(*charts)
    yield element("p", "kmesh: the bridge, and the kernel's maps. RSS counts what sidecars share for each of them.")
    if found["extrapolated"]:
        yield element("p", f"Extrapolated, not measured: {', '.join(found['extrapolated'])}.", class_="bad")


def show_convergence(found: _Json) -> Iterator[Element | None]:
    """Samples are by "CASE CLIENT", as "delta x10 bridge"."""
    clients = list(dict.fromkeys(name.rpartition(" ")[2] for name in found["samples"]))
    cases = list(dict.fromkeys(name.rpartition(" ")[0] for name in found["samples"]))
    figures = {"Until all is in force": ("converged_s", "s"), "One change": ("change_ms", "ms")}
    charts = []
    for title, (name, unit) in figures.items():
        series = {
            client: [_median(found["samples"].get(f"{case} {client}", {}).get(name)) for case in cases]
            for client in clients
        }
        charts.append(line_chart(f"{title}, by mesh", cases, series, Axis(unit=unit)))
    yield element("p", f"Services: {found['plan']['services']}; xN: endpoints of each.")
    yield _charts(*charts)


def show_connect(found: _Json) -> Iterator[Element | None]:
    sizes = sorted(found["summaries"], key=int)
    kinds = list(found["summaries"][sizes[0]])
    series = {kind: [found["summaries"][size][kind]["median"] / 1000 for size in sizes] for kind in kinds}
    yield _charts(line_chart("One connect(), by services", sizes, series, Axis(unit="us")))


def show_match(found: _Json) -> Iterator[Element | None]:
    charts = []
    for side, unit in (("kernel ns", "ns"), ("Envoy us", "us")):
        points = _match_points(found["summaries"].get(side, {}))
        for head in sorted({head for _, head, _ in points}):
            of_head = {name: by for (name, size, _), by in points.items() if size == head}
            sizes = sorted({size for by in of_head.values() for size in by})
            series = {name: [_median(by.get(size)) for size in sizes] for name, by in of_head.items()}
            title = f"{side.split()[0]}, head of {head} bytes"
            charts.append(line_chart(title, [f"{size:,}" for size in sizes], series, Axis(unit=unit)))
    yield _charts(*charts)
    yield element("p", "Envoy's figure has its sockets and its HTTP codec in it, the kernel's is matching alone.")


def show_compile(found: _Json) -> Iterator[Element | None]:
    sizes = sorted(found["summaries"], key=int)
    steps = list(found["summaries"][sizes[0]])
    series = {step: [found["summaries"][size][step]["median"] for size in sizes] for step in steps}
    yield _charts(line_chart("By virtual hosts", sizes, series, Axis(unit="ms", is_log=True)))


def show_ladder(found: _Json) -> Iterator[Element | None]:
    medians = {name: {"": summary["median"]} for name, summary in found["summaries"].items()}
    yield _charts(bar_chart("One run of each stage", medians, Axis(unit="ns")))
    yield _table_of_spreads("ns", found["summaries"])


def _match_points(summaries: Mapping[str, _Json]) -> dict[tuple[str, int, bool], dict[int, list[float]]]:
    """Medians of all places by size, by (shape and whether scattered, bytes of the head, is it scattered)."""
    found: dict[tuple[str, int, bool], dict[int, list[float]]] = {}
    for text, summary in summaries.items():
        if point := _POINT.fullmatch(text):
            size, shape, head, place = point.groups()
            is_scattered = place == _SCATTERED
            key = (f"{shape}, {_SCATTERED}" if is_scattered else shape, int(head), is_scattered)
            found.setdefault(key, {}).setdefault(int(size), []).append(summary["median"])
    return found


def _mebibytes(figures: Mapping[str, int] | None, kind: str) -> float | None:
    return (figures[kind] + figures.get("maps", 0)) / 2**20 if figures else None


def _median(values: Sequence[float] | None) -> float | None:
    return statistics.median(values) if values else None


def _table_of_spreads(unit: str, summaries: Mapping[str, _Json]) -> Element:
    names = ("median", "q1", "q3", "min", "max")
    rows = [[name, *(f"{found[n]:.1f}" for n in names), str(found["samples"])] for name, found in summaries.items()]
    return table([unit, *names, "samples"], rows)


def _charts(*charts: Element | None) -> Element | None:
    found: Iterable[Element] = [chart for chart in charts if chart is not None]
    return element("div", *found, class_="charts") if found else None
