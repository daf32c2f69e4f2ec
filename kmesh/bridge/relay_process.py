"""The relay as the bridge sees it: a process that is kept running, and outlives the bridge.

    found at the start          then
    none                        one is started
    one of the same build       it is taken as it is
    one of another build        it is asked to stop, at the latest killed, and its successor started
    (and whenever it ends)      its successor is started: at once, and with growing pauses when it ends soon again

It is never stopped for any other reason: a bridge that ends, or is killed, leaves it. Nothing is lost
meanwhile, since its keeper has its sockets (kmesh.relay.keeper).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import kmesh
from kmesh.relay.process_id import ProcessId, reap
from kmesh.relay.record import read_record
from kmesh.xds.backoff import Backoff

__all__ = ["RelayCommand", "RelayProcess", "relay_build"]

_log = logging.getLogger(__name__)

_PACKAGES = ("relay", "kernel", "compiler", "maps", "model", "records", "regex")
"""What a relay imports, beside the modules directly in kmesh."""
_SOON_S = 10.0
"""A relay that lived shorter has not settled."""
_STOPS_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayCommand:
    """What a relay is started with."""

    maps_dir: Path
    configuration: Path
    runtime_dir: Path
    cgroups: tuple[Path, ...] = ()
    log_format: str = "text"
    log_level: str = "info"
    module: str = "kmesh.relay"

    def arguments(self) -> list[str]:
        """Without the interpreter and --build."""
        return [
            *("-m", self.module, "--maps-dir", str(self.maps_dir), "--configuration", str(self.configuration)),
            *("--runtime-dir", str(self.runtime_dir)),
            *(part for path in self.cgroups for part in ("--cgroup", str(path))),
            *("--log-format", self.log_format, "--log-level", self.log_level),
        ]


def relay_build(command: RelayCommand) -> str:
    """The version, and a digest of the sources and the arguments: a relay of another one is replaced."""
    digest = blake2b("\0".join(command.arguments()).encode(), digest_size=8)
    for path in _sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{kmesh.__version__}-{digest.hexdigest()}"


class RelayProcess:
    def __init__(self, command: RelayCommand) -> None:
        self._command = command
        self.build = relay_build(command)
        self.id: ProcessId | None = None
        """None while none runs."""
        self.error = ""
        """How the last one ended; "" while one runs."""
        self.starts = 0
        """By this bridge."""
        self._keepers: set[int] = set()
        self._backoff = Backoff(initial_s=0.2, maximum_s=5.0, random=random.random)

    async def run(self) -> None:
        """Keep one running, until cancelled, which leaves it running."""
        while True:
            pidfd = await self._find() or self._start()
            began = time.monotonic()
            try:
                await _wait_for_end(pidfd)
                self._note_end(pidfd)
            finally:
                os.close(pidfd)
            if time.monotonic() - began >= _SOON_S:
                self._backoff.reset()
            elif self.starts > 1:
                await asyncio.sleep(self._backoff.next_delay())

    async def _find(self) -> int | None:
        """A pidfd of the one that runs, if it is of this build; one that is not has ended on return."""
        record = read_record(self._command.runtime_dir)
        pidfd = record.relay.open() if record else None
        if record is None or pidfd is None:
            return None
        if record.build == self.build:
            self._note_running(record.relay, "relay_found")
            return pidfd
        _log.info("relay_replaced", extra={"pid": record.relay.pid, "build": record.build, "by": self.build})
        try:
            await _stop(pidfd)
        finally:
            os.close(pidfd)
        return None

    def _start(self) -> int:
        """In a session of its own, so that no terminal's signal reaches it. Raises: OSError."""
        argv = [sys.executable, *self._command.arguments(), "--build", self.build]
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            files = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
            pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=files, setsid=True)
        self.starts += 1
        pidfd = os.pidfd_open(pid)
        self._note_running(ProcessId.of(pid), "relay_started")
        return pidfd

    def _note_running(self, process: ProcessId, event: str) -> None:
        self.id, self.error = process, ""
        self._reap_keepers()
        _log.info(event, extra={"pid": process.pid, "build": self.build})

    def _note_end(self, pidfd: int) -> None:
        pid = self.id.pid if self.id else 0
        self.id, self.error = None, "it ended"
        with contextlib.suppress(ChildProcessError):  # another bridge's
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            if ended:
                how = "with status" if ended.si_code == os.CLD_EXITED else "by signal"
                self.error = f"it ended {how} {ended.si_status}"
        self._reap_keepers()
        _log.warning("relay_ended", extra={"pid": pid, "how": self.error})

    def _reap_keepers(self) -> None:
        """Where this is process 1, keepers whose relay has died are its children."""
        for pid in list(self._keepers):
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG):
                    self._keepers.discard(pid)
        record = read_record(self._command.runtime_dir)
        journals = (record.journal, *record.others) if record else ()
        self._keepers |= {journal.keeper.pid for journal in journals if journal and journal.keeper}


async def _stop(pidfd: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOPS_WITHIN_S):
                await _wait_for_end(pidfd)
                break
    reap(pidfd)


async def _wait_for_end(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(pidfd, _finish, ended)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _sources() -> Iterator[Path]:
    root = Path(kmesh.__file__).parent
    yield from sorted(root.glob("*.py"))
    for package in _PACKAGES:
        yield from sorted((root / package).rglob("*.py"))
