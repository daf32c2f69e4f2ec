"""Charts as inline SVG: lines over named or numeric steps, and bars, plain or stacked. They know nothing of results.

Colours are classes ("c0", "c1", ...), so that the page's style decides them for light and dark. Each mark has its
value as a tooltip. A chart without a single value is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.markup import Element, element

__all__ = ["COLOURS", "Axis", "bar_chart", "line_chart", "write_number"]

COLOURS = 8
_WIDTH, _HEIGHT = 460.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 14.0, 38.0
_BAR, _GAP, _NAME_WIDTH, _VALUE_WIDTH = 18.0, 8.0, 190.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Of values."""

    unit: str
    is_log: bool = False


def line_chart(
    title: str, steps: Sequence[str], series: Mapping[str, Sequence[float | None]], axis: Axis
) -> Element | None:
    """A line for each series over evenly spaced steps; None is a gap at that step."""
    values = [value for line in series.values() for value in line if value is not None]
    if not values:
        return None
    ticks = _log_ticks(values) if axis.is_log else _linear_ticks(values)
    y = _scale(ticks, axis.is_log)
    x = [_LEFT + (_WIDTH - _LEFT - _RIGHT) * (i + 0.5) / len(steps) for i in range(len(steps))]
    svg = _canvas(title, _HEIGHT)
    svg.extend(_grid(ticks, y, axis.unit))
    svg.extend(_text(at, _HEIGHT - _BOTTOM + 16, step, "middle") for at, step in zip(x, steps, strict=True))
    for number, (name, line) in enumerate(series.items()):
        points = [(at, value, step) for at, value, step in zip(x, line, steps, strict=True) if value is not None]
        svg.extend(_line(name, [(at, y(value)) for at, value, _ in points], number))
        for at, value, step in points:
            tip = f"{name}, {step}: {write_number(value)} {axis.unit}"
            svg.append(_tipped("circle", tip, class_=f"f{number % COLOURS}", cx=at, cy=y(value), r=3.5))
    return _figure(title, svg, list(series))


def bar_chart(title: str, bars: Mapping[str, Mapping[str, float]], axis: Axis) -> Element | None:
    """A bar for each name, of parts one after the other; its sum stands behind it. From zero."""
    if not any(value for parts in bars.values() for value in parts.values()):
        return None
    parts = list(dict.fromkeys(part for found in bars.values() for part in found))
    room = _WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    longest = max(sum(found.values()) for found in bars.values())
    svg = _canvas(title, len(bars) * (_BAR + _GAP) + _GAP)
    for row, (name, found) in enumerate(bars.items()):
        top, at = _GAP + row * (_BAR + _GAP), _NAME_WIDTH
        svg.append(_text(at - 8, top + 13, name, "end"))
        for part, value in found.items():
            width = room * max(value, 0.0) / longest
            tip = f"{name}{f', {part}' if part else ''}: {write_number(value)} {axis.unit}"
            colour = f"f{parts.index(part) % COLOURS}"
            svg.append(_tipped("rect", tip, class_=colour, x=at, y=top, width=width, height=_BAR))
            at += width
        svg.append(_text(at + 6, top + 13, write_number(sum(found.values())), "start"))
    return _figure(f"{title}, {axis.unit}", svg, parts if parts != [""] else [])


def write_number(value: float) -> str:
    """Three digits that count, and all before the point."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# Axes


def _linear_ticks(values: Iterable[float]) -> list[float]:
    """From zero, some five of them."""
    most = max(values) or 1.0
    power = 10.0 ** math.floor(math.log10(most / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= 6)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten that is needed; without 2 and 5 where there are many."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = (math.log10(edge(positive)) for edge in (min, max))
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    first = max((i for i, tick in enumerate(ticks) if tick <= min(positive) * 1.0001), default=0)
    last = min((i for i, tick in enumerate(ticks) if tick >= max(positive) * 0.9999), default=len(ticks) - 1)
    return ticks[first : max(last, first + 1) + 1]


def _scale(ticks: Sequence[float], is_log: bool) -> Callable[[float], float]:
    """From a value to its height in the drawing; what a logarithm has not is at the bottom."""
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        if is_log:
            share = math.log(max(value, low) / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    return place


def _grid(ticks: Sequence[float], y: Callable[[float], float], unit: str) -> Iterable[Element]:
    for tick in ticks:
        yield element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick))
        yield _text(_LEFT - 6, y(tick) + 4, write_number(tick), "end")
    yield _text(_LEFT, _HEIGHT - 4, unit, "end")


# Drawing


def _canvas(title: str, height: float) -> Element:
    return element("svg", role="img", aria_label=title, viewBox=f"0 0 {_WIDTH:g} {height:g}")


def _line(name: str, points: Sequence[tuple[float, float]], number: int) -> Iterable[Element]:
    if len(points) > 1:
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height in points)
        yield _tipped("polyline", name, class_=f"line s{number % COLOURS}", points=path)


def _tipped(tag: str, tip: str, **attributes: object) -> Element:
    return element(tag, element("title", tip), **attributes)


def _text(x: float, y: float, text: str, anchor: str) -> Element:
    return element("text", text, x=x, y=y, text_anchor=anchor)


def _figure(title: str, svg: Element, names: Sequence[str]) -> Element:
    squares = (element("span", "\N{BLACK SQUARE}", class_=f"k{number % COLOURS}") for number in range(len(names)))
    keys = [element("span", square, f" {name}") for square, name in zip(squares, names, strict=True)]
    legend = element("div", *keys, class_="legend") if keys else None
    return element("figure", element("figcaption", title), svg, legend)
