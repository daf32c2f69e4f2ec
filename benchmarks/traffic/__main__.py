"""The traffic benchmarks alone, without a file: `python -m benchmarks.traffic [--quick]`, as root."""

from __future__ import annotations

import sys

from benchmarks.traffic.run import FULL, QUICK, measure_traffic
from benchmarks.traffic.table import print_claims, print_traffic


def main() -> None:
    result = measure_traffic(QUICK if "--quick" in sys.argv[1:] else FULL)
    print_traffic(result)
    print_claims(result["claims"])


if __name__ == "__main__":
    main()
