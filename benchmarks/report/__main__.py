"""`python -m benchmarks.report RESULT.json > report.html`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.report import render_report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="A result as an HTML page.")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    options = parser.parse_args()
    sys.stdout.write(render_report(json.loads(options.result.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
