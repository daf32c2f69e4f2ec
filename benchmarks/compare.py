"""Two results beside each other: every ratio and every median, what changed, and what of that is beyond the spread.

`python -m benchmarks.compare A.json B.json`; A is before, B after. The rules:

- A figure's spread is from its first to its third quartile. A ratio's is what the result says under "spreads";
  a ratio without one is taken to be within 10 % either way.
- A figure changed beyond the spread when the two spreads do not overlap. It is marked "better" or "worse".
- Less is better, but for requests/s.
- A ratio that is worse so makes the exit status 1; a median alone does not, for medians of two runs hold the machine
  and its load against each other. What only one of the results has is listed and judged by nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from benchmarks.figures import print_table, summarize

__all__ = ["Change", "Figure", "Verdict", "compare_results", "main"]

_Json = dict[str, Any]
_UNKNOWN_SPREAD = 0.1
_MORE_IS_BETTER = "requests/s"
_CONDITIONS = ("kernel", "cpu", "cpus", "is_quick", "load", "command")


class Verdict(Enum):
    SAME = ""
    BETTER = "better"
    WORSE = "worse"
    GONE = "only in A"
    NEW = "only in B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    value: float
    low: float
    high: float
    """The ends of its spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    name: str
    before: Figure | None
    after: Figure | None

    @property
    def verdict(self) -> Verdict:
        if self.before is None or self.after is None:
            return Verdict.GONE if self.after is None else Verdict.NEW
        is_less, is_more = self.after.high < self.before.low, self.after.low > self.before.high
        if self.name.startswith(_MORE_IS_BETTER):
            is_less, is_more = is_more, is_less
        return Verdict.BETTER if is_less else Verdict.WORSE if is_more else Verdict.SAME

    def cells(self) -> list[str]:
        """Of a table."""
        share = ""
        if self.before and self.after and self.before.value:
            share = f"{self.after.value / self.before.value - 1:+.1%}"
        return [self.name, _write(self.before), _write(self.after), share, self.verdict.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    ratios: Sequence[Change]
    medians: Sequence[Change]

    @property
    def is_worse(self) -> bool:
        return any(change.verdict is Verdict.WORSE for change in self.ratios)


def compare_results(before: _Json, after: _Json) -> Comparison:
    return Comparison(
        ratios=_pair(dict(_list_ratios(before)), dict(_list_ratios(after))),
        medians=_pair(dict(_list_medians(before)), dict(_list_medians(after))),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 1 when a ratio got worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    options = parser.parse_args(argv)
    before, after = (json.loads(path.read_text()) for path in (options.before, options.after))
    print_table(["", "A", "B"], [[name, before.get(name, ""), after.get(name, "")] for name in _CONDITIONS])
    comparison = compare_results(before, after)
    print_table(["ratio", "A", "B", "change", ""], [change.cells() for change in comparison.ratios])
    print_table(["median", "A", "B", "change", ""], [change.cells() for change in comparison.medians])
    worse = [change.name for change in comparison.ratios if change.verdict is Verdict.WORSE]
    print(f"worse beyond the spread: {'; '.join(worse)}" if worse else "no ratio is worse beyond the spread")
    return int(comparison.is_worse)


def _pair(before: dict[str, Figure], after: dict[str, Figure]) -> list[Change]:
    return [Change(name=name, before=before.get(name), after=after.get(name)) for name in before | after]


def _write(figure: Figure | None) -> str:
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})" if figure else ""


# What a result has


def _list_ratios(result: _Json) -> Iterator[tuple[str, Figure]]:
    spreads = result.get("spreads", {})
    for name, variants in result.get("ratios", {}).items():
        for variant, ratio in variants.items():
            unknown = (ratio * (1 - _UNKNOWN_SPREAD), ratio * (1 + _UNKNOWN_SPREAD))
            low, high = spreads.get(name, {}).get(variant, unknown)
            yield f"{name}, {variant}", Figure(value=ratio, low=low, high=high)


def _list_medians(result: _Json) -> Iterator[tuple[str, Figure]]:
    for key, section in result.items():
        if isinstance(section, dict):
            yield from _walk(key, section.get("summaries", {}))
    yield from _list_traffic(result.get("traffic", {}).get("samples", ()))


def _walk(name: str, found: _Json) -> Iterator[tuple[str, Figure]]:
    """What benchmarks.figures.summarize made, however deep."""
    if "median" in found:
        yield name, Figure(value=found["median"], low=found["q1"], high=found["q3"])
        return
    for key, inner in found.items():
        yield from _walk(f"{name}, {key}", inner)


def _list_traffic(samples: Sequence[_Json]) -> Iterator[tuple[str, Figure]]:
    """By scenario and workload, of those without errors."""
    for scenario, workload in dict.fromkeys((s["scenario"], s["workload"]) for s in samples):
        found = [s for s in samples if (s["scenario"], s["workload"]) == (scenario, workload)]
        if any(s["errors"] or s["non_2xx"] or not s["requests"] for s in found):
            continue
        figures = {
            "requests/s": [s["per_second"] for s in found],
            "CPU ms per 1000 requests": [sum(s["cpu_s"].values()) / s["requests"] * 1e6 for s in found],
        }
        for rank in ("p50", "p99"):
            figures[f"{rank} us"] = [s["latency_us"][rank] for s in found if s["latency_us"]]
        for name, values in figures.items():
            if values:
                summary = summarize(values)
                yield (
                    f"{name}, {scenario}, {workload}",
                    Figure(value=summary["median"], low=summary["q1"], high=summary["q3"]),
                )


if __name__ == "__main__":
    sys.exit(main())
