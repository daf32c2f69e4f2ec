"""Keepers as processes: what they hold, what ends them, and who may be the relay."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmesh.kernel.clone import copy_descriptor, start_holder
from kmesh.relay.keeper import KEEPER_NAME
from kmesh.relay.process_id import ProcessId, has_ended
from kmesh.relay.record import end_relay, find_keeper, read_record
from tests.relay.test_adoption import connect
from tests.support.envoy import wait_until
from tests.support.relay_place import RelayPlace, echo


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RelayPlace]:
    with RelayPlace(tmp_path) as place:
        yield place


@pytest.fixture
def holder() -> Iterator[ProcessId]:
    holder = ProcessId.of(start_holder("holds"))
    yield holder
    holder.kill()


def test_a_holder_has_what_is_opened_and_closed_later(holder: ProcessId) -> None:
    folder = Path(f"/proc/{holder.pid}/fd")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert (folder / str(ours.fileno())).readlink() == Path(f"/proc/self/fd/{ours.fileno()}").readlink()
        pidfd = os.pidfd_open(holder.pid)
        with socket.socket(fileno=copy_descriptor(pidfd, theirs.fileno())) as copy:
            ours.send(b"x")
            assert copy.recv(5) == b"x"
        number = theirs.fileno()
    assert not (folder / str(number)).exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        copy_descriptor(pidfd, number)
    os.close(pidfd)


def test_a_holder_is_ended_by_sigkill_only(holder: ProcessId) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *range(32, 65)}:
        os.kill(holder.pid, number)
    assert Path(f"/proc/{holder.pid}/comm").read_text() == "holds\n"
    assert os.getpgid(holder.pid) == holder.pid
    assert holder.is_running()
    assert holder.kill()
    assert not holder.is_running()
    assert not holder.kill()


def test_the_parent_keeps_its_name_and_signal_mask(holder: ProcessId) -> None:
    assert Path("/proc/thread-self/comm").read_text() != "holds\n"
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_id_used_again_is_not_the_same_process() -> None:
    own = ProcessId.of(os.getpid())
    assert own.is_running()
    assert not ProcessId(own.pid, own.started + 1).is_running()


def test_a_killed_keeper_is_replaced_and_holds_the_same(place: RelayPlace) -> None:
    first = place.start()
    with connect(first["port"]) as client:
        assert echo(client, "before") == first["pid"]
        os.kill(first["keeper"], signal.SIGKILL)
        wait_until(lambda: place.status()["keeper"] != first["keeper"], 5, "another keeper")
        assert not Path(f"/proc/{first['keeper']}").exists()  # reaped
        place.kill(first["pid"])
        second = place.start()
        assert echo(client, "after") == second["pid"]


def test_there_is_one_relay_of_a_directory(place: RelayPlace) -> None:
    first = place.start()
    assert place.spawn().wait(10) == 2
    assert f"process {first['pid']} is the relay of {place.runtime_dir}: stop it first" in place.log.read_text()
    assert place.status()["pid"] == first["pid"]


def test_of_two_that_start_at_once_one_is_the_relay(place: RelayPlace) -> None:
    first = place.start()
    place.kill(first["pid"])
    both = [place.spawn(), place.spawn()]
    wait_until(lambda: any(process.poll() is not None for process in both), 10, "one to give way")
    (loser,) = [process for process in both if process.poll() is not None]
    (winner,) = [process for process in both if process is not loser]
    assert loser.returncode == 2
    wait_until(lambda: place.serving_pid() == winner.pid, 10, "the other to serve")


def test_a_keeper_that_was_not_written_down_is_found(place: RelayPlace) -> None:
    """Killed when it had made its keeper, and before the record says so."""
    assert place.spawn("write_record:2").wait(10) == -signal.SIGKILL
    (journal,) = place.record.others
    keeper = find_keeper(journal)
    assert journal.keeper is None and keeper
    assert Path(f"/proc/{keeper.pid}/comm").read_text() == f"{KEEPER_NAME}\n"
    place.start()
    assert not keeper.is_running()


def test_ending_the_relay_closes_everything(place: RelayPlace) -> None:
    status = place.start()
    with connect(status["port"]) as client:
        assert echo(client, "before") == status["pid"]
        pidfd = os.pidfd_open(status["keeper"])
        done = end_relay(place.runtime_dir)
        assert done == [
            f"relay process {status['pid']} of {place.runtime_dir}",
            f"keeper process {status['keeper']} of {place.runtime_dir}",
            str(place.runtime_dir),
        ]
        assert has_ended(pidfd)
        os.close(pidfd)
        assert client.recv(1) == b""
    assert read_record(place.runtime_dir) is None
    assert end_relay(place.runtime_dir) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": "another"}'])
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "relay.json").write_text(text)
    assert read_record(tmp_path) is None
