"""Elements of a page. All text is escaped as it is written, so a page is well-formed whatever a result says."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

__all__ = ["Element", "element", "table", "write_page"]


def element(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """Names of attributes have "_" for "-", and may end in one ("class_"); None is no child."""
    found = Element(tag, {name.rstrip("_").replace("_", "-"): _write(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, str):
            _append_text(found, child)
        elif child is not None:
            found.append(child)
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[Element | str]]) -> Element:
    """The first column to the left, the others to the right. It scrolls by itself where it is too wide."""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))),
            element("tbody", *(_row(cells) for cells in rows)),
        ),
        class_="scroll",
    )


def write_page(html: Element) -> str:
    """HTML that is XML too."""
    for one in html.iter():
        if one.tag in _NEVER_EMPTY and not len(one) and not one.text:
            one.text = "\N{NO-BREAK SPACE}"  # <td/> would be read as a start tag
    return f"<!DOCTYPE html>\n{ElementTree.tostring(html, encoding='unicode')}\n"


_NEVER_EMPTY = frozenset(("td", "th", "tr", "tbody", "p", "div", "section", "span", "h1", "h2", "h3", "details"))


def _row(cells: Sequence[Element | str]) -> Element:
    first, *rest = cells
    return element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _write(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
