"""The page has every section that the result has, and is well-formed whatever the result says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from benchmarks.figures import summarize
from benchmarks.report import render_report
from tests.support.sandbox import REPO

Json = dict[str, Any]
SUMMARY = summarize([1.0, 2.0, 4.0])
_LATENCY = {"p50": 10.0, "p90": 20.0, "p99": 50.0, "p999": 200.0}


def sample(scenario: str, **more: Any) -> Json:
    cpu = {"user": 0.1, "system": 0.2, "softirq": 0.1}
    counts = {"repetition": 0, "seconds": 1.0, "requests": 1000, "bytes": 5000, "errors": 0, "non_2xx": 0}
    figures = {"per_second": 1000.0, "latency_us": _LATENCY, "cpu_s": cpu}
    return {"scenario": scenario, "workload": "http-1", **counts, **figures, **more}


def memory(size: int) -> Json:
    return {"pss": size << 20, "rss": size << 21}


TRAFFIC = {
    "scenarios": ["direct", "kmesh-l4"],
    "workloads": ["http-1"],
    "samples": [sample("direct"), sample("kmesh-l4", latency_us={name: 2 * us for name, us in _LATENCY.items()})],
    "memory_bytes": {"direct": {}, "kmesh-l4": {"bridge": 90 << 20}},
}
SECTIONS: dict[str, Json] = {
    "traffic": TRAFFIC,
    "bootstrap": {"summaries": {"kmesh L4": SUMMARY, "sidecar": SUMMARY}},
    "pods": {
        "bytes": {
            "100 services": {
                "kmesh": {"1": memory(90) | {"maps": 1 << 20}, "10": memory(90) | {"maps": 1 << 20}},
                "sidecars": {"1": memory(60), "10": memory(300)},
            }
        },
        "extrapolated": ["100 services, 10 pods"],
    },
    "convergence": {
        "plan": {"services": 1000},
        "samples": {
            f"delta x{n} {client}": {"converged_s": [0.4], "change_ms": [3.0, 4.0]}
            for n in (10, 100)
            for client in ("bridge", "envoy")
        },
    },
    "connect": {"summaries": {size: {"direct": SUMMARY, "service": SUMMARY} for size in ("10", "1000")}},
    "route_match": {
        "summaries": {
            side: {
                f"{n} routes in one virtual host, head of 300, {place}": SUMMARY
                for n in (1, 10)
                for place in ("first", "last", "scattered")
            }
            for side in ("kernel ns", "Envoy us")
        }
    },
    "route_compile": {"summaries": {size: {"decode": SUMMARY, "compile": SUMMARY} for size in ("10", "100")}},
    "ladder": {"summaries": {"empty program": SUMMARY, "one hash lookup": SUMMARY}},
}
RUN: Json = {
    "at": "2026-01-01T00:00:00+00:00",
    "command": "python -m benchmarks --quick",
    "machine": "x86_64",
    "kernel": "6.1.0",
    "cpu": "a <fast> & cheap CPU",
    "cpus": 2,
    "load": 0.5,
    "versions": {"kmesh": "0.1.0", "envoy": "1.40.0"},
    "is_quick": True,
    "seconds": 90,
    "ratios": {"service / direct": {"10 services": 1.1}},
}
CLAIMS = [
    {"claim": "added latency", "scenario": "kmesh-l4", "figure": 0.98, "target": 0.6, "passed": True},
    {"claim": "memory", "scenario": "kmesh-l4", "figure": None, "target": 0.7, "passed": False},
]


def parse(result: Json) -> Element:
    """The page's root. Raises ParseError when it is not well-formed."""
    doctype, _, html = render_report(result).partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ElementTree.fromstring(html)


def text_of(root: Element, section: str) -> str:
    found = root.find(f".//section[@id='{section}']")
    assert found is not None, section
    return " ".join(found.itertext())


def section_ids(root: Element) -> list[str]:
    return [found.attrib["id"] for found in root.iter("section")]


def test_every_section_is_shown_with_a_chart() -> None:
    root = parse({**RUN, **SECTIONS, "claims": CLAIMS})
    assert section_ids(root) == ["run", "claims", *SECTIONS, "ratios"]
    without = [key for key in SECTIONS if root.find(f".//section[@id='{key}']//svg") is None]
    assert without == []


@pytest.mark.parametrize("key", SECTIONS)
def test_a_section_that_the_result_lacks_is_left_out(key: str) -> None:
    got = section_ids(parse({**RUN, **{name: part for name, part in SECTIONS.items() if name != key}}))
    assert got == ["run", *(name for name in SECTIONS if name != key), "ratios"]


def test_the_conditions_of_the_run_are_told() -> None:
    text = text_of(parse(RUN), "run")
    for want in (RUN["command"], "6.1.0", "a <fast> & cheap CPU", "0.5", "envoy 1.40.0", "quick"):
        assert want in text


def test_claims_that_fail_are_told() -> None:
    text = text_of(parse({**RUN, "claims": CLAIMS}), "claims")
    for want in ("1 of 2 pass", "98.0%", "60%", "no result", "FAIL"):
        assert want in text


@pytest.mark.parametrize("fault", ["errors", "non_2xx"])
def test_what_had_errors_is_told_and_is_no_figure(fault: str) -> None:
    samples = [sample("direct"), sample("kmesh-l4", **{fault: 3})]
    root = parse({**RUN, "traffic": {**TRAFFIC, "samples": samples}})
    text = text_of(root, "traffic")
    assert "kmesh-l4, http-1" in text and "no result" in text
    marks = [title.text or "" for title in root.iter("title")]
    assert any(mark.startswith("direct, p50") for mark in marks)
    assert not any(mark.startswith("kmesh-l4, p50") for mark in marks)


def test_a_stream_without_latencies_is_shown() -> None:
    samples = [sample(name, latency_us=None) for name in TRAFFIC["scenarios"]]
    text = text_of(parse({**RUN, "traffic": {**TRAFFIC, "samples": samples}}), "traffic")
    assert "Throughput" in text


def test_what_is_extrapolated_is_told() -> None:
    assert "not measured: 100 services, 10 pods" in text_of(parse({**RUN, "pods": SECTIONS["pods"]}), "pods")


def test_the_page_needs_nothing_else() -> None:
    root = parse({**RUN, **SECTIONS})
    assert not [found.tag for found in root.iter() if found.tag in ("script", "link", "img", "iframe")]
    assert not [found for found in root.iter() if {"src", "href"} & found.attrib.keys()]
    style = root.findtext(".//style") or ""
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**RUN, **SECTIONS}))
    argv = [sys.executable, "-m", "benchmarks.report", str(path)]
    got = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=30, check=True)
    assert got.stdout == render_report({**RUN, **SECTIONS})
