"""`python -m kmesh.bridge` as a process of a sandbox, and the questions that tests ask it: over its own API, of its
log, and of the kernel it writes to."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import htons
from typing import Any, Self

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.cli.as_json import to_plain
from kmesh.cli.connection import fetch_status, stream_dump
from kmesh.errors import KmeshError
from kmesh.kernel import bpf
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.sources import layout_digest
from kmesh.maps.image import MapName
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.layout import CELL, FRONTEND_KEY
from tests.support.envoy import wait_until
from tests.support.name_server import Address
from tests.support.sandbox import BPFFS, Sandbox

__all__ = ["KMESHCTL", "Bridge"]

KMESHCTL = (sys.executable, "-m", "kmesh.cli.main")
_READY_S = 20.0
_numbers = itertools.count()


class Bridge:
    """Context manager: started as it is entered, with JSON logs, and stopped at the end. May be killed and started
    again; its state directory stays."""

    def __init__(
        self,
        sandbox: Sandbox,
        *options: str | Path,
        enrolled: bool = False,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        expect_service: bool = True,
    ) -> None:
        """`prefix` is a command that runs the process ("unshare ..."). Without `expect_service` it counts as ready
        when its API answers, served configuration or not."""
        number = next(_numbers)
        self.sandbox = sandbox
        self.state_dir = sandbox.folder / f"state-{number}"
        self.socket = sandbox.folder / "api.sock"
        self.log = sandbox.folder / f"bridge-{number}.log"
        self.options = ["--instance", sandbox.instance, "--cgroup", sandbox.pods, "--state-dir", self.state_dir]
        self.options += ["--api-socket", self.socket, "--log-format", "json", *options]
        self._enrolled, self._env, self._prefix = enrolled, env, prefix
        self._expects_service = expect_service
        self._starts: list[int] = []
        """Length of the log at each start."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        command = [*self._prefix, sys.executable, "-m", "kmesh.bridge", *self.options]
        self._starts.append(self.log.stat().st_size if self.log.exists() else 0)
        with self.log.open("a") as log:
            self.process = self.sandbox.spawn(command, enrolled=self._enrolled, env=self._env, stderr=log)

    def wait_until_ready(self) -> None:
        try:
            wait_until(self._is_ready, _READY_S, "the bridge to be ready")
        except BaseException:
            self.kill()
            print(self.log.read_text())
            raise

    def stop(self) -> int:
        """Its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_READY_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(_READY_S)

    # Its API

    def status(self) -> dict[str, Any]:
        """As `kmeshctl status --json` prints it. Raises: KmeshError when it does not answer."""
        status: dict[str, Any] = to_plain(asyncio.run(fetch_status(self.socket)))
        return status

    def wait_for(self, is_met: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 10.0) -> None:
        """Until its status is as wanted."""
        wait_until(lambda: is_met(self.status()), timeout_s, what)

    def outcome(self, reason: str) -> int:
        """How many connects and datagrams ended for that reason."""
        return int(next((item["count"] for item in self.status()["outcomes"] if item["reason"] == reason), 0))

    def limitations(self) -> dict[str, set[str]]:
        """{"listener NAME": {features that are not supported}}."""
        found: dict[str, set[str]] = {}
        for item in self.status()["limitations"]:
            for resource in item["resources"]:
                found.setdefault(resource, set()).add(item["feature"])
        return found

    def program_ids(self) -> dict[str, int]:
        return {program["name"]: program["id"] for program in self.status()["programs"]}

    def dump(self, kind: pb.DumpKind) -> list[dict[str, Any]]:
        async def read() -> str:
            request = pb.DumpRequest(kind=kind, format=pb.DumpFormat.JSON)
            return "".join([chunk async for chunk in stream_dump(self.socket, request)])

        elements: list[dict[str, Any]] = json.loads(asyncio.run(read()))
        return elements

    def kmeshctl(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command, pointed at this bridge."""
        command = [*KMESHCTL, *map(str, arguments), "--instance", self.sandbox.instance, "--socket", str(self.socket)]
        return subprocess.run(command, capture_output=True, text=True, timeout=_READY_S, check=False)

    # Its log

    def events(self, event: str) -> list[dict[str, Any]]:
        """Of the present process."""
        return self._events(event, self._starts[-1])

    def all_events(self, event: str) -> list[dict[str, Any]]:
        """Of every process so far."""
        return self._events(event, 0)

    def _events(self, event: str, start: int) -> list[dict[str, Any]]:
        with self.log.open() as log:
            log.seek(start)
            lines = [json.loads(line) for line in log if line.endswith("\n")]
        return [line for line in lines if line["event"] == event]

    # The kernel

    def serves(self, address: Address) -> bool:
        """Whether the kernel has a frontend for a TCP address."""
        slot, wanted = struct.pack("<I", 0), SocketAddress.parse(*address)
        key = FRONTEND_KEY.pack(wanted.addr16, htons(wanted.port), Protocol.TCP)
        maps = InstancePaths(bpffs=BPFFS, instance=self.sandbox.instance).maps(layout_digest())
        with _descriptor(bpf.get_object(maps / MapName.FRONTEND.value)) as outer:
            inner = int.from_bytes(bpf.lookup(outer, slot, 4) or b"", "little")
        with _descriptor(bpf.map_fd_by_id(inner)) as frontends:
            return bpf.lookup(frontends, key, CELL.size) is not None

    def wait_until_serves(self, address: Address, timeout_s: float = 10.0) -> None:
        """`address` may be the marker of a publication (tests.support.control_plane).

        Status and dumps follow a moment later: the bridge reports what it has done.
        """
        try:
            wait_until(lambda: self.serves(address), timeout_s, f"the kernel to have {address}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "the bridge ended"
        try:
            return self.status()["apply"]["at"] is not None or not self._expects_service
        except KmeshError:
            return False


@contextmanager
def _descriptor(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
