"""Plain text for a terminal: tables, wrapped fields, ages and sizes, and colour where it is wanted. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

__all__ = ["WIDTH", "Paint", "clip", "format_age", "format_duration", "format_size", "format_table"]
__all__ += ["mask_controls", "wrap_field"]

WIDTH = 100

_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "�")
_CONTROLS_BUT_LINE_END = {code: shown for code, shown in _CONTROLS.items() if code != ord("\n")}
_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours, or none. Applied to whole words after layout, so that widths stay right."""

    is_coloured: bool

    def good(self, text: str) -> str:
        return self._wrap("1;32", text)

    def bad(self, text: str) -> str:
        return self._wrap("1;31", text)

    def heading(self, text: str) -> str:
        return self._wrap("1", text)

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_coloured and text else text


def mask_controls(text: str) -> str:
    """Control characters but for line ends made visible: a name from the control plane must not steer a terminal."""
    return text.translate(_CONTROLS_BUT_LINE_END)


def clip(text: str, width: int) -> str:
    """One line of at most `width` characters, an ellipsis where some are left out."""
    shown = text if len(text) <= width else f"{text[: width - 1]}…"
    return shown.translate(_CONTROLS)


def wrap_field(label: str, text: str, indent: int) -> list[str]:
    """`label`, then `text` from column `indent` on, on as many lines as it takes."""
    return textwrap.wrap(
        mask_controls(text),
        width=WIDTH,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def format_table(rows: Sequence[Sequence[str]], alignments: str) -> Iterator[str]:
    """Lines of columns two spaces apart; `alignments` has "<" or ">" for each. The last column is clipped to fit."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(alignments))]
    for row in rows:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, alignments, widths, strict=True))
        yield clip("  ".join(cells).rstrip(), WIDTH)


def format_age(at: datetime | None, now: datetime) -> str:
    """How long ago, as in "3h12m ago"."""
    return "never" if at is None else f"{format_duration((now - at).total_seconds())} ago"


def format_duration(seconds: float) -> str:
    """The two largest units of a time span: 4d2h, 3h12m, 5m03s, 12s; below a second 1.2 ms."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    whole = max(0, round(seconds))
    for name, size, next_name, next_size in _UNITS:
        if whole >= size:
            return f"{whole // size}{name}{whole % size // next_size:02}{next_name}"
    return f"{whole}s"


def format_size(size: int) -> str:
    """Bytes in the largest binary unit that leaves a whole number before the point."""
    scaled = float(size)
    for unit in ("B", "KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.0f} B" if unit == "B" else f"{scaled:.1f} {unit}"
        scaled /= 1024
    return f"{scaled:.1f} GiB"
