"""The demo's client: plain sockets and http.client, no idea that there is a mesh.

`python -m examples.client tcp|udp HOST PORT COUNT` makes COUNT connections (UDP: sockets), one request on each;
`python -m examples.client http HOST PORT COUNT PATH [HEADER VALUE]` makes one, and COUNT requests on it. Both print
{answer: how often} as JSON, where a failed connection counts under the error's name.
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


def _ask_on_one_connection(host: str, port: int, count: int, path: str, *header: str) -> Counter[str]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    answers: Counter[str] = Counter()
    try:
        for _ in range(count):
            connection.request("GET", path, headers=dict((header,) if header else ()))
            response = connection.getresponse()
            body = response.read().decode()
            elsewhere = f"{response.status} {response.getheader('location')}"
            answers[elsewhere if response.getheader("location") else body] += 1
    except OSError as error:
        answers[errno.errorcode.get(error.errno or 0, str(error))] += count - answers.total()
    finally:
        connection.close()
    return answers


def _ask_udp(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.sendto(b"?", (host, port))
        answer, peer = sock.recvfrom(512)
        return answer.decode() if peer == (host, port) else f"answered by {peer}"


def main() -> None:
    protocol, host, port, count, *more = sys.argv[1:]
    if protocol == "http":
        answers = _ask_on_one_connection(host, int(port), int(count), *more)
    else:
        ask = {"tcp": _ask_http, "udp": _ask_udp}[protocol]
        answers = Counter(ask(host, int(port)) for _ in range(int(count)))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
