"""Golden files: a virtual host in the JSON form of Envoy's files (as YAML), its form after each pass, its records.

`pytest tests/compiler/routes --update-golden` rewrites them; the difference is what a review reads.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kmesh.compiler.automata import BoundExceeded, Budget
from kmesh.compiler.routes.compile import compile_virtual_host
from kmesh.compiler.routes.decide import decide
from kmesh.compiler.routes.normalise import find_candidates
from kmesh.compiler.routes.printer import print_candidates, print_graph
from kmesh.compiler.routes.unions import Unions
from kmesh.compiler.routes.verify import find_violations_in_candidates, find_violations_in_graph
from kmesh.model.route import VirtualHost
from tests.support.matcher_text import print_records
from tests.support.route_oracle import Case, decode_case

FILES = sorted((Path(__file__).parents[2] / "golden" / "virtual_hosts").glob("*.txt"))
_HEADING = re.compile(r"^\[(.+)\]\n", re.MULTILINE)


def read_sections(text: str) -> dict[str, str]:
    _, *parts = _HEADING.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def decode_host(text: str) -> VirtualHost:
    host = {"name": "v", "domains": ["*"], **yaml.safe_load(text)}
    manager = decode_case(Case(routes={"virtual_hosts": [host]}, requests=()))
    assert manager.route_config
    return manager.route_config.virtual_hosts[0]


def print_passes(host: VirtualHost) -> dict[str, str]:
    got = {}
    unions = Unions(budget=Budget())
    candidates = find_candidates(host, (), unions.budget)
    assert find_violations_in_candidates(candidates) == []
    got["candidates"] = print_candidates(candidates) + "\n"
    try:
        graph = decide(candidates, unions)
    except BoundExceeded as why:
        got["graph"] = f"{why}\n\n"
    else:
        assert find_violations_in_graph(graph, candidates, unions) == []
        got["graph"] = print_graph(graph) + "\n"
    compiled = compile_virtual_host(host)
    link = f"link {compiled.link:016x}\n"
    got["records"] = link + print_records(compiled.records, compiled.clusters)
    return got


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path, updates_golden: bool) -> None:
    want = read_sections(path.read_text())
    got = {"virtual host": want["virtual host"], **print_passes(decode_host(want["virtual host"]))}
    if updates_golden:
        path.write_text("".join(f"[{heading}]\n{body}" for heading, body in got.items()))
    else:
        assert got == want


def test_there_are_files() -> None:
    assert FILES
