"""The table in docs/verified-instructions.md: what the verifier walked when it was last recorded, and what has grown.

Text in, text out; `scripts/test-kernels --record` writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["find_growth", "format_table", "parse_table"]

_MAX_GROWTH = 1.1
_TEXT = """# Verified instructions

How many instructions the verifier walks before it accepts each program, by series of Debian's kernel: what loading
costs. The kernel's limit is a million. `scripts/test-kernels` fails when a count has grown by more than 10 %;
`scripts/test-kernels --record` writes this table, and the commit that does so says why. The matcher is counted in
the programs that test it, `km_run_*`.

"""

Counts = Mapping[str, Mapping[str, int]]
"""By kernel series, then by program."""


def format_table(counts: Counts) -> str:
    """The whole file."""
    all_series = sorted(counts, key=lambda series: [int(number) for number in series.split(".")])
    programs = sorted({program for of_series in counts.values() for program in of_series})
    rows = [["program", *all_series], ["---"] + ["---:"] * len(all_series)]
    for program in programs:
        rows.append([program, *(str(counts[series].get(program, "")) for series in all_series)])
    return _TEXT + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parse_table(text: str) -> dict[str, dict[str, int]]:
    """The inverse of format_table; of a text without a table, nothing."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    if not rows:
        return {}
    (_, *all_series), _, *body = rows
    return {
        series: {row[0]: int(row[column]) for row in body if row[column]}
        for column, series in enumerate(all_series, start=1)
    }


def find_growth(recorded: Counts, got: Counts) -> Iterator[str]:
    """One sentence for each count of `got` that needs a reason, or was never recorded."""
    for series, counts in got.items():
        for program, count in counts.items():
            before = recorded.get(series, {}).get(program)
            if before is None:
                yield f"{program} on {series} is not recorded"
            elif count > before * _MAX_GROWTH:
                yield f"{program} on {series} grew by {count / before - 1:.0%}, from {before} to {count}"
