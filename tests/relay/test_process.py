"""The bridge's side: a relay that is kept running, outlives its bridge, and is replaced by another build."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from kmesh.bridge.relay_process import RelayCommand, RelayProcess, relay_build
from kmesh.relay.control import RelayUnreachable, fetch_status, reload_relay
from kmesh.relay.process_id import ProcessId
from kmesh.relay.record import end_relay, read_record
from tests.relay.test_adoption import connect
from tests.support.envoy import wait_until
from tests.support.relay_place import echo
from tests.support.sandbox import REPO

BRIDGE = """
import sys
from pathlib import Path
import uvloop
from kmesh.bridge.relay_process import RelayCommand, RelayProcess
folder = Path(sys.argv[1])
command = RelayCommand(maps_dir=folder, configuration=folder / "configuration", runtime_dir=folder / "relay",
                       module="tests.support.echo_relay")
uvloop.run(RelayProcess(command).run())
"""
"""As much of a bridge as keeps a relay."""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[RelayCommand]:
    yield RelayCommand(
        maps_dir=tmp_path,
        configuration=tmp_path / "configuration",
        runtime_dir=tmp_path / "relay",
        module="tests.support.echo_relay",
    )
    end_relay(tmp_path / "relay")


@asynccontextmanager
async def kept(command: RelayCommand) -> AsyncIterator[RelayProcess]:
    process = RelayProcess(command)
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        await asyncio.wait({task})


async def serving(command: RelayCommand, is_wanted: Callable[[int], bool] = bool) -> dict[str, int]:
    """Status of the relay, once one with such a process id answers."""
    async with asyncio.timeout(15):
        while True:
            try:
                status = await fetch_status(command.runtime_dir, 0.3)
                if is_wanted(status["pid"]):
                    return status
            except RelayUnreachable:
                await asyncio.sleep(0.01)


async def reached(is_met: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, is_met, 20, "the state")


def test_one_that_is_killed_has_a_successor(command: RelayCommand) -> None:
    async def run() -> None:
        async with kept(command) as process:
            first = await serving(command)
            assert process.id == ProcessId.of(first["pid"])
            with connect(first["port"]) as client:
                assert await asyncio.to_thread(echo, client, "before") == first["pid"]
                pid = first["pid"]
                for text in ("once", "twice"):
                    os.kill(pid, signal.SIGKILL)
                    killed, pid = pid, (await serving(command, lambda got, pid=pid: got != pid))["pid"]
                    assert await asyncio.to_thread(echo, client, text) == pid
                    with pytest.raises(ProcessLookupError):  # reaped
                        ProcessId.of(killed)
            assert (process.starts, process.error) == (3, "")

    uvloop.run(run())


def test_a_relay_outlives_its_bridge_and_is_found_by_the_next(command: RelayCommand) -> None:
    async def run() -> None:
        async with kept(command):
            first = await serving(command)
        assert os.getsid(first["pid"]) == first["pid"]
        async with kept(command) as process:
            await reached(lambda: process.id is not None)
            assert process.id and (process.id.pid, process.starts) == (first["pid"], 0)
            os.kill(first["pid"], signal.SIGKILL)  # no child of this process object's, and restarted all the same
            second = await serving(command, lambda pid: pid != first["pid"])
            assert (second["port"], process.starts) == (first["port"], 1)

    uvloop.run(run())


def test_another_build_is_replaced_without_losing_a_connection(command: RelayCommand) -> None:
    other = replace(command, log_level="debug")
    assert relay_build(other) != relay_build(command) == relay_build(replace(command))

    async def run() -> None:
        async with kept(command):
            first = await serving(command)
        with connect(first["port"]) as client:
            assert await asyncio.to_thread(echo, client, "before") == first["pid"]
            async with kept(other):
                second = await serving(command, lambda pid: pid != first["pid"])
                assert await asyncio.to_thread(echo, client, "after") == second["pid"]
        record = read_record(command.runtime_dir)
        assert record and record.build == relay_build(other)

    uvloop.run(run())


def test_reload_and_what_it_answers(command: RelayCommand) -> None:
    async def run() -> None:
        with pytest.raises(RelayUnreachable, match="does not answer"):
            await reload_relay(command.runtime_dir)
        async with kept(command):
            await serving(command)
            with pytest.raises(RelayUnreachable, match="No such file"):
                await reload_relay(command.runtime_dir)
            command.configuration.write_bytes(b"")
            await reload_relay(command.runtime_dir)
            assert (await fetch_status(command.runtime_dir))["reloads"] == 1

    uvloop.run(run())


def test_one_that_cannot_start_is_tried_again_with_pauses(command: RelayCommand, tmp_path: Path) -> None:
    async def run() -> None:
        async with kept(replace(command, maps_dir=tmp_path / "none")) as process:
            await reached(lambda: process.starts >= 3 and process.error == "it ended with status 2")
            assert process.starts <= 4

    uvloop.run(run())


@pytest.mark.parametrize("order", ["bridge first", "relay first"])
def test_bridge_and_relay_are_both_killed(command: RelayCommand, tmp_path: Path, order: str) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", BRIDGE, str(tmp_path)], cwd=REPO)

    def status_of_another(pid: int) -> dict[str, int]:
        return asyncio.run(serving(command, lambda got: got != pid))

    bridge = start()
    try:
        first = status_of_another(0)
        with connect(first["port"]) as client:
            assert echo(client, "before") == first["pid"]
            for end in [bridge.kill, lambda: os.kill(first["pid"], signal.SIGKILL)][:: 1 if order[0] == "b" else -1]:
                end()
            bridge.wait()
            wait_until(lambda: not is_running(command, first["pid"]), 5, "the relay to be gone")
            client.sendall(b"into the gap")
            bridge = start()
            second = status_of_another(first["pid"])
            assert client.recv(100) == f"into the gap {second['pid']}\n".encode()
    finally:
        bridge.kill()
        bridge.wait()


def is_running(command: RelayCommand, pid: int) -> bool:
    record = read_record(command.runtime_dir)
    return bool(record and record.relay.pid == pid and record.relay.is_running())


def test_help_teaches_and_settings_are_checked(tmp_path: Path) -> None:
    def relay(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kmesh.relay", *arguments]
        return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=20, check=False)

    text = relay("--help")
    assert text.returncode == 0
    for word in ("kmesh-keeper", "--maps-dir DIR", "--runtime-dir DIR", "--uninstall", "example:"):
        assert word in text.stdout
    where = ["--configuration", str(tmp_path / "c"), "--runtime-dir", str(tmp_path / "r")]
    got = relay("--maps-dir", str(tmp_path / "none"), *where)
    assert got.returncode == 2
    assert got.stderr.endswith("is no directory: start the bridge first, which makes it\n")
    assert not (tmp_path / "r").exists()
