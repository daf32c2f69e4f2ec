"""Golden files: a snapshot, its form after each pass that changes it, its records and its reports.

`pytest tests/compiler/test_golden.py --update-golden` rewrites them; the difference is what a review reads.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmesh.compiler import Compilation, Compiler, print_program, print_unit
from kmesh.compiler.build import build_cluster, build_listener
from kmesh.compiler.claims import claim_destinations
from kmesh.compiler.ir import Program
from kmesh.compiler.passes import PASSES
from kmesh.compiler.verify import find_violations
from kmesh.model.snapshot import Snapshot
from tests.support.image_text import print_image
from tests.support.snapshot_text import read_snapshot

FILES = sorted((Path(__file__).parent.parent / "golden").glob("*.txt"))
_HEADING = re.compile(r"^\[(.+)\]\n", re.MULTILINE)


def read_sections(text: str) -> dict[str, str]:
    _, *parts = _HEADING.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def build_program(snapshot: Snapshot, compilation: Compilation) -> Program:
    claims = claim_destinations(snapshot.listeners)
    return Program(
        listeners=tuple(
            build_listener(snapshot.listeners[name], destinations, snapshot.route_configs, snapshot.clusters)
            for name, destinations in claims.destinations.items()
        ),
        clusters=tuple(
            build_cluster(unit.name, snapshot.clusters.get(unit.name), snapshot.assignments.get(unit.name))
            for unit in compilation.program.clusters
        ),
    )


def print_changed(before: Program, after: Program) -> str:
    """The units that a pass changed."""
    pairs = (*zip(before.listeners, after.listeners, strict=True), *zip(before.clusters, after.clusters, strict=True))
    return "".join(print_unit(new) for old, new in pairs if print_unit(old) != print_unit(new))


def print_reports(compilation: Compilation) -> str:
    return "".join(
        f"{r.kind} {r.name}: {r.feature}{f' at {r.path}' if r.path else ''}: {r.effect.value}: {r.consequence}\n"
        for r in compilation.reports
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path, updates_golden: bool) -> None:
    want = read_sections(path.read_text())
    snapshot = read_snapshot(want["snapshot"])
    compilation = Compiler().compile(snapshot)
    program = build_program(snapshot, compilation)
    got = {"snapshot": want["snapshot"], "ir": print_program(program) + "\n"}
    assert find_violations(program) == []
    for rewrite in PASSES:
        before, program = program, rewrite(program)
        assert find_violations(program) == [], rewrite.__name__
        changed = print_changed(before, program)
        if changed:
            got[f"after {rewrite.__name__}"] = changed + "\n"
    assert find_violations(program, is_finished=True) == []
    assert program == compilation.program
    got["image"] = print_image(compilation.image) + "\n"
    got["reports"] = print_reports(compilation)
    if updates_golden:
        path.write_text("".join(f"[{heading}]\n{body}" for heading, body in got.items()))
    else:
        assert got == want
