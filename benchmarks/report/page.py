"""The page: what was run and where, what is claimed, then a section for each part of the result that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.report.markup import Element, element, table, write_page
from benchmarks.report.microbenchmarks import (
    show_bootstrap,
    show_compile,
    show_connect,
    show_convergence,
    show_ladder,
    show_match,
    show_pods,
)
from benchmarks.report.style import STYLE
from benchmarks.report.traffic import show_traffic

__all__ = ["render_report"]

_Json = dict[str, Any]

_SECTIONS: tuple[tuple[str, str, Callable[[_Json], Iterable[Element | None]]], ...] = (
    ("traffic", "Traffic", show_traffic),
    ("bootstrap", "From a pod's start to its first request", show_bootstrap),
    ("pods", "Memory by pods of a node", show_pods),
    ("convergence", "Convergence of configuration", show_convergence),
    ("connect", "connect() by services", show_connect),
    ("route_match", "Matching a request, by routes", show_match),
    ("route_compile", "One virtual host changed", show_compile),
    ("ladder", "The ladder", show_ladder),
)


def render_report(result: _Json) -> str:
    """An HTML page of its own. `result` as benchmarks/SCHEMA.md has it; a section that it lacks is left out."""
    title = f"kmesh benchmarks, Linux {result.get('kernel', 'unknown')}"
    sections = [
        element("section", element("h2", heading), *show(result[key]), id=key)
        for key, heading, show in _SECTIONS
        if result.get(key)
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", STYLE),
    )
    summary = (*_show_conditions(result), *_show_claims(result))
    body = element("body", element("h1", title), *summary, *sections, *_show_ratios(result))
    return write_page(element("html", head, body, lang="en"))


def _show_conditions(result: _Json) -> Iterator[Element]:
    versions = ", ".join(f"{name} {number}" for name, number in result.get("versions", {}).items())
    rows = [
        ("at", result.get("at")),
        ("command", result.get("command")),
        ("kernel", f"{result.get('kernel')} {result.get('machine', '')}".strip()),
        ("CPU", f"{result.get('cpu')}, {result.get('cpus', '?')} CPUs"),
        ("load before", result.get("load")),
        ("versions", versions),
        ("plan", "quick: for a first look, few repetitions" if result.get("is_quick") else "full"),
        ("took", f"{result['seconds']} s" if "seconds" in result else None),
    ]
    shown = [[name, element("span", str(value), class_="left")] for name, value in rows if value not in (None, "")]
    yield element("section", element("h2", "Run"), table(["condition", ""], shown), id="run")


def _show_claims(result: _Json) -> Iterator[Element]:
    claims = result.get("claims") or [
        claim for part in result.values() if isinstance(part, dict) for claim in part.get("claims", ())
    ]
    if not claims:
        return
    failed = sum(not claim["passed"] for claim in claims)
    summary = f"{len(claims) - failed} of {len(claims)} pass." if failed else f"All {len(claims)} pass."
    rows = [
        [
            claim["claim"],
            claim["scenario"],
            "no result" if claim["figure"] is None else f"{claim['figure']:.1%}",
            f"{claim['target']:.0%}",
            element("span", "pass", class_="ok") if claim["passed"] else element("span", "FAIL", class_="bad"),
        ]
        for claim in claims
    ]
    head = ["saved", "scenario", "measured", "at least", ""]
    yield element("section", element("h2", "Claims"), element("p", summary), table(head, rows), id="claims")


def _show_ratios(result: _Json) -> Iterator[Element]:
    rows = [
        [name, variant, f"{ratio:.3f}"]
        for name, variants in result.get("ratios", {}).items()
        for variant, ratio in (variants.items() if isinstance(variants, dict) else [("", variants)])
    ]
    if rows:
        folded = element("details", element("summary", f"All {len(rows)}"), table(["ratio", "of", ""], rows))
        yield element("section", element("h2", "Ratios"), folded, id="ratios")
