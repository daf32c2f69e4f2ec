"""Samples, their summaries, and tables of them on standard output; progress on standard error."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

__all__ = ["print_table", "say", "spread", "summarize"]


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
    for number, (first, *rest) in enumerate(cells):
        columns = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        print("  ".join(columns).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)


def say(text: str) -> None:
    """Where a long run is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
