"""kmesh.bridge.outline: plain values as indented text."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.bridge.outline import outline


@pytest.mark.parametrize(
    "plain, want",
    [
        pytest.param({"a": 1, "b": True, "c": None}, ["a: 1", "b: true", "c: none"], id="scalars"),
        pytest.param({"a": {}, "b": []}, ["a: {}", "b: []"], id="empty"),
        pytest.param({"a": {"x": 1, "y": "z"}}, ["a: {x: 1, y: z}"], id="a flat mapping is one line"),
        pytest.param({"a": ["x", "y"]}, ["a: [x, y]"], id="a flat list is one line"),
        pytest.param({"a": {"x": {"y": {"z": 1}}}}, ["a:", "  x:", "    y: {z: 1}"], id="nested mappings"),
        pytest.param(
            {"a": [{"x": 1}, {"x": [{"y": 2}]}]},
            ["a:", "  - {x: 1}", "  - x:", "      - {y: 2}"],
            id="list of mappings",
        ),
        pytest.param({"a": [["x", ["y"]], []]}, ["a:", "  - - x", "    - [y]", "  - []"], id="list of lists"),
        pytest.param(
            {"a": ["x" * 60, "y" * 60]}, ["a:", "  - " + "x" * 60, "  - " + "y" * 60], id="too long for a line"
        ),
        pytest.param({"a": "x\ny"}, ["a:", "  x", "  y"], id="several lines of text"),
        pytest.param({"a": ["x\ny"]}, ["a:", "  - x", "    y"], id="several lines in a list"),
    ],
)
def test_outline(plain: dict[str, Any], want: list[str]) -> None:
    assert list(outline(plain)) == want
