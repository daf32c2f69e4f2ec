"""The keeper: a process that shares the relay's table of descriptors, waits, and so outlives it with every socket.

What the relay opens the keeper has at that moment. It follows that nothing may be closed on the way out: a relay ends
by os._exit() or a signal, never by unwinding. A keeper that is killed alone is replaced, since the table is the
relay's own as well.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

from kmesh.kernel.clone import copy_descriptor, start_holder
from kmesh.relay.journal import SLOTS
from kmesh.relay.process_id import ProcessId, has_ended, reap
from kmesh.relay.record import JournalId, find_keeper

__all__ = ["KEEPER_NAME", "Keeper", "Kept", "open_kept", "raise_descriptor_limit"]

KEEPER_NAME = "kmesh-keeper"


def raise_descriptor_limit() -> int:
    """To the number of a journal's slots, or as far as this process may; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (SLOTS, min(SLOTS, hard) if hard != resource.RLIM_INFINITY else SLOTS):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            return limit
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Keeper:
    """This process's."""

    def __init__(self, on_start: Callable[[ProcessId], None]) -> None:
        """`on_start` is told of each keeper, the first included. Raises: OSError."""
        self._on_start = on_start
        self.id, self._pidfd = self._start()

    def watch(self) -> None:
        """Replace it whenever it ends, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._replace)

    def _start(self) -> tuple[ProcessId, int]:
        pid = start_holder(KEEPER_NAME)
        keeper, pidfd = ProcessId.of(pid), os.pidfd_open(pid)
        self._on_start(keeper)
        return keeper, pidfd

    def _replace(self) -> None:
        if not has_ended(self._pidfd):
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        reap(self._pidfd)
        os.close(self._pidfd)
        self.id, self._pidfd = self._start()
        self.watch()


class Kept:
    """What a predecessor's keeper holds."""

    def __init__(self, keeper: ProcessId, pidfd: int) -> None:
        self.keeper, self._pidfd = keeper, pidfd
        self._folder = Path(f"/proc/{keeper.pid}/fd")

    def copy(self, descriptor: int) -> int | None:
        """A descriptor of the same; None when there is none of that number."""
        try:
            return copy_descriptor(self._pidfd, descriptor)
        except OSError:
            return None

    def descriptors(self) -> list[int]:
        """The numbers in use, ascending."""
        return sorted(int(path.name) for path in self._folder.iterdir())

    def is_socket(self, descriptor: int) -> bool:
        try:
            return str((self._folder / str(descriptor)).readlink()).startswith("socket:")
        except OSError:
            return False

    def close(self) -> None:
        os.close(self._pidfd)


def open_kept(journal: JournalId) -> Kept | None:
    """None when its keeper has ended, and with it everything."""
    keeper = find_keeper(journal)
    pidfd = keeper.open() if keeper else None
    return Kept(keeper, pidfd) if keeper and pidfd is not None else None
