"""Relays that are killed, at every step, and what their successors have: real processes and connections."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmesh.relay.process_id import ProcessId
from tests.support.envoy import wait_until
from tests.support.relay_place import RelayPlace, echo

MANY = 1000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RelayPlace]:
    with RelayPlace(tmp_path) as place:
        yield place


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_a_killed_relay_loses_no_connection(place: RelayPlace) -> None:
    first = place.start()
    with connect(first["port"]) as old, connect(first["port"]) as asking:
        assert echo(old, "before") == first["pid"]
        place.kill(first["pid"])
        asking.sendall(b"while there is none")
        with connect(first["port"]) as new:
            second = place.start()
            assert second["port"] == first["port"]
            assert second["adopted"] >= 1
            for sock, text in ((old, "a"), (new, "b")):
                assert echo(sock, text) == second["pid"]
            assert asking.recv(100) == f"while there is none {second['pid']}\n".encode()
    assert place.record.relay == ProcessId.of(second["pid"])
    assert place.record.others == ()
    wait_until(lambda: place.status()["clients"] == 0, 5, "the clients' ends to be seen")


def test_the_predecessors_keeper_is_ended(place: RelayPlace) -> None:
    first = place.start()
    keeper = ProcessId.of(first["keeper"])
    place.kill(first["pid"])
    assert keeper.is_running()
    place.start()
    assert not keeper.is_running()


def test_a_stopped_relay_leaves_all_to_its_keeper(place: RelayPlace) -> None:
    first = place.start()
    with connect(first["port"]) as client:
        assert echo(client, "before") == first["pid"]
        os.kill(first["pid"], signal.SIGTERM)
        second = place.start()
        assert echo(client, "after") == second["pid"]


def test_again_and_again(place: RelayPlace) -> None:
    status = place.start()
    with connect(status["port"]) as client:
        for turn in range(4):
            assert echo(client, str(turn)) == status["pid"]
            place.kill(status["pid"])
            status = place.start()
        assert echo(client, "last") == status["pid"]


def test_killed_between_accept_and_the_slot(place: RelayPlace) -> None:
    first = place.start()
    place.kill(first["pid"])
    dying = place.spawn("accepted")
    with connect(first["port"]) as client:
        client.sendall(b"not forgotten")
        assert dying.wait(10) == -signal.SIGKILL
        second = place.start()
        assert client.recv(100) == f"not forgotten {second['pid']}\n".encode()


@pytest.mark.parametrize("step", [
    "write_record:1", "write_record:2", "copy:1", "copy:2", "copy:4", "write_record:3", "kill:1", "write_record:4",
])  # fmt: skip
def test_killed_in_the_middle_of_adoption(place: RelayPlace, step: str) -> None:
    """Twice, so that the next one finds what two of them left."""
    first = place.start()
    keepers = [ProcessId.of(first["keeper"])]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(first["port"])) for _ in range(5)]
        for client in clients:
            assert echo(client, "before") == first["pid"]
        place.kill(first["pid"])
        for _ in range(2):
            assert place.spawn(step).wait(10) == -signal.SIGKILL
            keepers += [journal.keeper for journal in place.record.others if journal.keeper]
        last = place.start()
        assert last["adopted"] == 5
        for client in clients:
            assert echo(client, "after") == last["pid"]
    assert not any(keeper.is_running() for keeper in keepers)
    assert place.record.others == ()


def test_many_sockets_are_adopted_fast(place: RelayPlace) -> None:
    first = place.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(first["port"])) for _ in range(MANY)]
        wait_until(lambda: place.status()["clients"] == MANY, 10, "all to be accepted")
        place.kill(first["pid"])
        started = time.monotonic()
        second = place.start()
        took_s = time.monotonic() - started
        assert second["adopted"] == MANY
        assert {echo(client, "x") for client in clients} == {second["pid"]}
    print(f"{MANY} sockets served on {took_s * 1000:.0f} ms after the start of the successor")
    assert took_s < 5
