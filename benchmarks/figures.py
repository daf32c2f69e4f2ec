"""Samples, their summaries, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["print_table", "spread", "summarize"]


def summarize(samples: Sequence[float]) -> dict[str, float | int]:
    """Median, quartiles, extremes, and how many; all in the samples' unit."""
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    return {
        "median": statistics.median(samples),
        "q1": low,
        "q3": high,
        "min": min(samples),
        "max": max(samples),
        "samples": len(samples),
    }


def spread(samples: Sequence[float], digits: int) -> str:
    """ "median (min to max)" for a table."""
    middle = f"{statistics.median(samples):.{digits}f}"
    return f"{middle} ({min(samples):.{digits}f} to {max(samples):.{digits}f})" if len(samples) > 1 else middle


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        first, *rest = (f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths)))
        print("  ".join([first, *rest]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)
