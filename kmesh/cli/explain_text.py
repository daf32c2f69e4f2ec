"""An explanation for people: where the request goes first, then why, then the routes that did not take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kmesh.cli.text import wrap_field

__all__ = ["render_explanation"]

_INDENT = 14
_NAMES = {"listener": "listener", "route_config": "routes", "virtual_host": "virtual host", "route": "route"}


def render_explanation(answer: Mapping[str, Any]) -> str:
    """Of the form that JSON has."""
    return "\n".join([*_render(answer), ""])


def _render(answer: Mapping[str, Any]) -> Iterator[str]:
    for key, label in _NAMES.items():
        if answer[key] is not None:
            yield from wrap_field(label, str(answer[key]), _INDENT)
    yield from wrap_field("action", _describe(answer["action"]), _INDENT)
    yield from wrap_field("path", answer["path"], _INDENT)
    for line in answer["why"]:
        yield from wrap_field("why", line, _INDENT)
    for line in answer["rejected"]:
        yield from wrap_field("rejected", line, _INDENT)


def _describe(action: Mapping[str, Any]) -> str:
    match action:
        case {"kind": "weighted", "clusters": clusters}:
            total = sum(clusters.values())
            return "weighted " + ", ".join(f"{name} {weight}/{total}" for name, weight in clusters.items())
        case _:
            return " ".join(str(value) for value in action.values())
