"""Plain values as an indented outline for people: YAML's look without its quoting. Pure.

    addresses: [10.0.0.1:80]
    filter_chains:
      - network:
          type: TcpProxy
          clusters:
            - {name: reviews, weight: 1}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["outline"]

_WIDTH = 100
_STEP = "  "


def outline(plain: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Lines without line ends. What has no structure of its own and fits stays on one line."""
    for key, value in plain.items():
        short = _one_line(value)
        if short is not None and len(indent) + len(key) + len(short) + 2 <= _WIDTH:
            yield f"{indent}{key}: {short}"
            continue
        yield f"{indent}{key}:"
        yield from _nested(value, indent + _STEP)


def _nested(value: object, indent: str) -> Iterator[str]:
    match value:
        case Mapping():
            yield from outline(value, indent)
        case list():
            for item in value:
                yield from _item(item, indent)
        case _:
            yield from (indent + line for line in _scalar(value).split("\n"))


def _item(item: object, indent: str) -> Iterator[str]:
    """One element of a list: its first line starts with a dash."""
    short = _one_line(item)
    lines = iter([indent + _STEP + short]) if short is not None else _nested(item, indent + _STEP)
    for number, line in enumerate(lines):
        yield line if number else f"{indent}- {line[len(indent) + 2 :]}"


def _one_line(value: object) -> str | None:
    """None when the value needs lines of its own."""
    match value:
        case Mapping() if _is_flat(value.values()):
            text = "{" + ", ".join(f"{k}: {_scalar(v)}" for k, v in value.items()) + "}"
        case list() if _is_flat(value):
            text = "[" + ", ".join(map(_scalar, value)) + "]"
        case Mapping() | list():
            return None
        case _:
            text = _scalar(value)
            return None if "\n" in text else text
    return None if "\n" in text or len(text) > _WIDTH else text


def _is_flat(values: Iterable[object]) -> bool:
    return not any(isinstance(value, Mapping | list) for value in values)


def _scalar(value: object) -> str:
    match value:
        case True:
            return "true"
        case False:
            return "false"
        case None:
            return "none"
        case _:
            return str(value)
