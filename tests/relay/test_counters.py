"""Counts of a stream's bytes, compared with what was written and read, in every state of a connection."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from kmesh.relay.counters import count_taken, count_written
from tests.support.envoy import wait_until

CLOSE = 7
"""Of linux include/net/tcp_states.h."""


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """An opener and what was accepted."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        opener = socket.create_connection(listener.getsockname()[:2], timeout=10)
        accepted, _ = listener.accept()
    accepted.settimeout(10)
    with opener, accepted:
        yield opener, accepted


def test_new_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    opener, accepted = pair
    assert [count_written(opener, is_opener=True), count_written(accepted, is_opener=False)] == [0, 0]
    assert [count_taken(opener), count_taken(accepted)] == [0, 0]


def test_written_before_it_is_acknowledged_and_behind_a_fin(pair: tuple[socket.socket, socket.socket]) -> None:
    opener, accepted = pair
    opener.setblocking(False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += opener.send(bytes(100_003))
            assert count_written(opener, is_opener=True) == written
    assert count_taken(accepted) == 0
    opener.shutdown(socket.SHUT_WR)
    assert count_written(opener, is_opener=True) == written
    taken = 0
    while received := accepted.recv(70_001):
        taken += len(received)
        assert count_taken(accepted) == taken
        assert count_written(opener, is_opener=True) == written
    assert taken == written == count_taken(accepted)


def test_half_closed_and_answered(pair: tuple[socket.socket, socket.socket]) -> None:
    opener, accepted = pair
    opener.sendall(bytes(10))
    opener.shutdown(socket.SHUT_WR)
    accepted.recv(4, socket.MSG_PEEK)
    assert count_taken(accepted) == 0
    accepted.recv(7, socket.MSG_TRUNC)
    assert count_taken(accepted) == 7
    accepted.sendall(bytes(50))
    assert count_written(accepted, is_opener=False) == 50
    assert count_taken(opener) == 0
    opener.recv(20)
    assert count_taken(opener) == 20


@pytest.mark.parametrize("first", ["opener", "accepted"])
def test_both_ends_have_sent_their_fin(pair: tuple[socket.socket, socket.socket], first: str) -> None:
    opener, accepted = pair
    opener.sendall(bytes(3))
    accepted.sendall(bytes(5))
    accepted.recv(3)
    for end in (opener, accepted) if first == "opener" else (accepted, opener):
        end.shutdown(socket.SHUT_WR)
    for end in (opener, accepted):
        wait_until(lambda end=end: end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE, 5, "the end")
    assert [count_written(opener, is_opener=True), count_written(accepted, is_opener=False)] == [3, 5]
    assert [count_taken(opener), count_taken(accepted)] == [0, 3]
    opener.recv(5)
    assert count_taken(opener) == 5
