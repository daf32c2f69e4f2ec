"""The open loop's client: answers however they are cut up, and latency from when a request should have begun."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.traffic.loads.open_loop import Connection
from tests.support.sandbox import REPO

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nserver: x\r\n\r\nabc"


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
def test_an_answer_is_whole_wherever_it_is_cut(cut: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours)
        theirs.send(ANSWER[:cut])
        assert connection.read() is None
        theirs.send(ANSWER[cut:])
        assert connection.read() == ANSWER


def test_a_closed_connection_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(OSError):
            Connection(ours).read()


def test_a_stall_shows_in_every_request_that_it_held_up() -> None:
    with _server(stalls_at=150, stall_s=0.4) as port:
        got = _run(port, connections=1, rate=200, warm_up_s=0.5, seconds=1.0)
    assert (got["requests"], got["errors"], got["non_2xx"]) == (200, 0, 0)
    # From the 50th request on, 80 of the 200 should have begun within the 0.4 s of the stall.
    assert got["latency_us"]["p50"] < 50_000
    assert got["latency_us"]["p90"] > 150_000


def test_bad_answers_and_lost_ones_are_counted() -> None:
    with _server(ends_at=100, status=b"503 No") as port:
        got = _run(port, connections=1, rate=100, warm_up_s=0.2, seconds=1.0)
    assert got["requests"] == got["non_2xx"] == 80
    assert got["errors"] == 20


def _run(port: int, *, connections: int, rate: int, warm_up_s: float, seconds: float) -> dict[str, object]:
    arguments = ("127.0.0.1", port, connections, rate, warm_up_s, seconds)
    command = [sys.executable, "-m", "benchmarks.traffic.loads.open_loop", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=20, check=True)
    return json.loads(done.stdout)


@contextmanager
def _server(
    *, stalls_at: int = -1, stall_s: float = 0.0, ends_at: int = -1, status: bytes = b"200 OK"
) -> Iterator[int]:
    """Answers one connection; numbers are of requests, from 0."""
    answer = ANSWER.replace(b"200 OK", status)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            number = 0
            while connection.recv(4096):
                if number == ends_at:
                    return
                time.sleep(stall_s if number == stalls_at else 0)
                connection.sendall(answer)
                number += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
