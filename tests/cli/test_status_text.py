"""kmesh.cli.status_text: the whole page, against golden files (pytest --update-golden writes them)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.bridge.admin import to_status
from kmesh.bridge.view import StatusView
from kmesh.cli.status_text import render_status
from kmesh.cli.text import WIDTH
from tests.support.sample_bridge import NOW, degraded_status, healthy_status

GOLDEN = Path(__file__).parent / "golden"
PAGES = [pytest.param(healthy_status(), id="healthy"), pytest.param(degraded_status(), id="degraded")]


@pytest.mark.parametrize("status", PAGES)
def test_golden(request: pytest.FixtureRequest, updates_golden: bool, status: StatusView) -> None:
    path = GOLDEN / f"status_{request.node.callspec.id}.txt"
    got = render_status(to_status(status), now=NOW)
    if updates_golden:
        path.write_text(got)
    assert got == path.read_text()


@pytest.mark.parametrize("status", PAGES)
def test_fits_the_width(status: StatusView) -> None:
    lines = render_status(to_status(status), now=NOW).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("status", PAGES)
def test_colour_changes_no_text(status: StatusView) -> None:
    message = to_status(status)
    coloured = render_status(message, now=NOW, is_coloured=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_status(message, now=NOW)
    assert coloured.startswith("\x1b[")


def test_a_bridge_that_says_nothing_yet_has_a_page() -> None:
    assert render_status(pb.Status(), now=NOW).startswith("ok\n")
