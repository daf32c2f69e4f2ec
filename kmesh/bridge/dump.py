"""Renders what a bridge holds as one document, text or JSON, an element at a time.

A document is produced as it is consumed, so one of any size costs the memory of its largest element.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import assert_never

from kmesh.bridge.elements import (
    MAP_TYPES,
    MODEL_TYPES,
    UNIT_TYPES,
    Element,
    ResourceElement,
    list_records,
    list_units,
    list_values,
)
from kmesh.bridge.view import BridgeView
from kmesh.errors import ConfigError

__all__ = ["DumpFormat", "DumpKind", "cut", "dump"]

class DumpKind(Enum):
    """What to dump: each stage that configuration passes, from the wire to the kernel."""

    XDS = "xds"
    MODEL = "model"
    IR = "ir"
    IMAGE = "image"
    MAPS = "maps"


class DumpFormat(Enum):
    TEXT = "text"
    JSON = "json"


def dump(view: BridgeView, kind: DumpKind, form: DumpFormat, *, name: str = "", of_type: str = "") -> Iterator[str]:
    """The document in pieces of an element or less.

    `name` keeps elements that have it in their name (records: in their text, or in the name of a listener or cluster
    they were compiled from); `of_type` keeps one type of element, in any case. "" keeps all.
    Raises: ConfigError when the dump has no such type; MapError while a dump of maps is consumed.
    """
    type_name = _find_type(view, kind, of_type) if of_type else ""
    kept = (
        element
        for element in _list_elements(view, kind, has_units=bool(name))
        if type_name in ("", element.type) and (not name or element.is_named(name))
    )
    return _render_json(kept) if form is DumpFormat.JSON else _render_text(kept)


def cut(pieces: Iterable[str], size: int) -> Iterator[str]:
    """The same text in chunks of `size` characters, but for the last one."""
    held: list[str] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length < size:
            continue
        text = "".join(held)
        whole = length - length % size
        yield from (text[at : at + size] for at in range(0, whole, size))
        held, length = [text[whole:]], length - whole
    if length:
        yield "".join(held)


def _list_elements(view: BridgeView, kind: DumpKind, *, has_units: bool) -> Iterator[Element]:
    match kind:
        case DumpKind.XDS:
            return (ResourceElement(resource) for resource in view.accepted())
        case DumpKind.MODEL:
            return list_values(view.snapshot())
        case DumpKind.IR:
            return list_units(view.compilation())
        case DumpKind.IMAGE:
            image = view.image()
            return list_records(image.records(), image, view.compilation(), has_units=has_units)
        case DumpKind.MAPS:
            return list_records(view.kernel_records(), view.image(), view.compilation(), has_units=has_units)
        case _:
            assert_never(kind)


def _list_types(view: BridgeView, kind: DumpKind) -> tuple[str, ...]:
    match kind:
        case DumpKind.XDS:
            return tuple(item.name for item in view.status().xds.types)
        case DumpKind.MODEL:
            return MODEL_TYPES
        case DumpKind.IR:
            return UNIT_TYPES
        case DumpKind.IMAGE | DumpKind.MAPS:
            return MAP_TYPES
        case _:
            assert_never(kind)


def _find_type(view: BridgeView, kind: DumpKind, asked: str) -> str:
    """The type as it is spelled."""
    types = _list_types(view, kind)
    for known in types:
        if known.lower() == asked.lower():
            return known
    raise ConfigError(f"dump {kind.value} has no type {asked!r}: choose one of {', '.join(types)}")


def _render_text(elements: Iterable[Element]) -> Iterator[str]:
    for element in elements:
        for line in element.lines():
            yield f"{line}\n"


def _render_json(elements: Iterable[Element]) -> Iterator[str]:
    """One array, an element to a line."""
    before = "[\n"
    for element in elements:
        yield before + json.dumps(element.plain(), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"
