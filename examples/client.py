"""The demo's client: plain sockets and http.client, no idea that there is a mesh.

`python -m examples.client tcp|udp HOST PORT COUNT` makes COUNT connections (UDP: sockets), one request on each, and
prints {answer: how often} as JSON, where a failed connection counts under the error's name.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import sys
from collections import Counter

_TIMEOUT_S = 5.0


def _ask_http(host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    finally:
        connection.close()


def _ask_udp(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.sendto(b"?", (host, port))
        answer, peer = sock.recvfrom(512)
        return answer.decode() if peer == (host, port) else f"answered by {peer}"


def main() -> None:
    ask = {"tcp": _ask_http, "udp": _ask_udp}[sys.argv[1]]
    host, port, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(Counter(ask(host, port) for _ in range(count))))


if __name__ == "__main__":
    main()
