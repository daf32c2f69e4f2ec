"""Prove the kernel side and the demo on Debian's kernels: `scripts/test-kernels [SERIES...]`.

Each kernel boots in a virtual machine of its own (machine.py). Exit status: 0 when on each of them every test passed,
the demo's splits were as configured, and no program's verified instructions grew (recorded.py).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.other_kernels.machine import run_machine
from tests.other_kernels.package import KernelUnavailable, fetch_kernel
from tests.other_kernels.recorded import find_growth, format_table, parse_table
from tests.support.sandbox import REPO

_ALL = ("6.1", "6.12")
"""Of Debian 12: its own, and the one for newer hardware."""
_RECORD = REPO / "docs" / "verified-instructions.md"
_TIMEOUT_S = 1800.0
"""Of one kernel: against a machine that hangs, not a measure of what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one kernel. Without results (no such kernel, a panic, out of time) everything is at its default."""

    series: str
    release: str = "did not run to its end"
    tests: int = 0
    passed: int = 0
    is_demo_right: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return 0 < self.passed == self.tests and self.is_demo_right and bool(self.counts)


def _prove(series: str) -> Outcome:
    try:
        kernel = fetch_kernel(series)
    except KernelUnavailable as error:
        print(f"{series}: {error}", file=sys.stderr)
        return Outcome(series=series, release="not available")
    print(f"\n{series}: booting {kernel.package}, emulated, for at most {_TIMEOUT_S:.0f} s", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kmesh-results-") as results:
        if not run_machine(kernel, Path(results), _TIMEOUT_S):
            print(f"{series}: not done after {_TIMEOUT_S:.0f} s", file=sys.stderr)
            return Outcome(series=series)
        print(f"{series}: done in {time.monotonic() - started:.0f} s", flush=True)
        return _read_outcome(series, Path(results))


def _read_outcome(series: str, results: Path) -> Outcome:
    """What tests/other_kernels/inside left; it writes counts.json last."""
    if not (results / "counts.json").is_file():
        return Outcome(series=series)
    tests = ElementTree.parse(results / "tests.xml").findall(".//testcase")
    counts = (results / "counts.json").read_text()
    return Outcome(
        series=series,
        release=(results / "release").read_text().strip(),
        tests=len(tests),
        passed=sum(len(test.findall("failure") + test.findall("error")) == 0 for test in tests),
        is_demo_right=(results / "demo.status").read_text().strip() == "0",
        counts=json.loads(counts) if counts else {},
    )


def _show(outcomes: list[Outcome]) -> None:
    print(f"\n{'KERNEL':<24} {'TESTS PASSED':<14} {'DEMO':<6} VERIFIED INSTRUCTIONS")
    for outcome in outcomes:
        tests = f"{outcome.passed} of {outcome.tests}"
        demo = "ok" if outcome.is_demo_right else "WRONG" if outcome.tests else "-"
        first, *rest = [f"{count:>7} {program}" for program, count in sorted(outcome.counts.items())] or [""]
        print(f"{outcome.release:<24} {tests:<14} {demo:<6} {first}")
        for line in rest:
            print(f"{'':<46} {line}")


def _compare(outcomes: list[Outcome], is_recording: bool) -> bool:
    """Whether no count grew; recording makes what there is what is allowed."""
    recorded = parse_table(_RECORD.read_text()) if _RECORD.exists() else {}
    got = {outcome.series: outcome.counts for outcome in outcomes if outcome.counts}
    if is_recording:
        _RECORD.write_text(format_table(recorded | got))
        return True
    growth = list(find_growth(recorded, got))
    for sentence in growth:
        print(f"{sentence}: find out why, then run scripts/test-kernels --record", file=sys.stderr)
    return not growth


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/test-kernels", description=(__doc__ or "").partition(":")[0] + ".")
    parser.add_argument("series", nargs="*", default=_ALL, help=f"kernel series that apt offers (default: {_ALL})")
    parser.add_argument("--record", action="store_true", help=f"write {_RECORD.relative_to(REPO)} anew")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        outcomes = [_prove(series) for series in options.series]
    except KeyboardInterrupt:
        return 130
    _show(outcomes)
    is_within = _compare(outcomes, options.record)
    return 0 if is_within and all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
