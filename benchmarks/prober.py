"""Connects to one address again and again until a given endpoint answers: when a change reached the data path.

`python -m benchmarks.prober ADDRESS PORT`. For each line on standard input, the byte to wait for, it prints an empty
line once it has begun and then one JSON object:

    {"at": 1767225600.123456, "polls": 17, "interval_s": 0.0003}

`at` (Unix time) is when that endpoint's first answer was there; it is late by one interval at most.
"""

from __future__ import annotations

import json
import socket
import sys
import time

_PAUSE_S = 0.0002


def main() -> None:
    address = (sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        print(flush=True)
        print(json.dumps(_poll(address, line.strip().encode())), flush=True)


def _poll(address: tuple[str, int], wanted: bytes) -> dict[str, float]:
    started = time.time()
    polls = 0
    while True:
        polls += 1
        is_wanted = _ask(address) == wanted
        at = time.time()
        if is_wanted:
            return {"at": at, "polls": polls, "interval_s": (at - started) / polls}
        time.sleep(_PAUSE_S)


def _ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=5) as connection:
        return connection.recv(1)


if __name__ == "__main__":
    main()
