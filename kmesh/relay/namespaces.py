"""The network namespaces that the relay serves: its own, and those of processes in the enrolled cgroups.

    found                                                           done
    a process in a namespace that is not known                      open it: `opened` makes acceptors
    no process twice in a row, and no client's connection           close it: `closed` takes all away

A namespace lives while a process is in it, or a socket or a descriptor of it is open. The relay's acceptors and
pooled connections are such sockets, so they would keep a dead pod's namespace: that is why it is left within two
scans (2 s) of its last process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kmesh.kernel.namespaces import NamespaceThread, find_namespace, namespace_cookie, open_namespace
from kmesh.relay.cgroup_scan import CgroupScan

__all__ = ["Namespace", "Namespaces"]

_log = logging.getLogger(__name__)
_SCAN_S = 1.0
_SOON_S = 0.03
_SOON_TIMES = 10
"""A process enters its cgroup first and its namespace a moment later, which nobody tells."""
_MISSES = 2


@dataclass(eq=False, slots=True)
class Namespace:
    """One that is open. `cookie` is its name to programs, `inode` to people (`lsns`)."""

    inode: int
    cookie: int
    fd: int
    """-1: this process is in it."""
    thread: NamespaceThread
    misses: int = 0
    """Scans in a row that found no process in it."""

    async def make_socket(self, family: socket.AddressFamily) -> socket.socket:
        """A TCP socket inside, not blocking. Raises OSError."""
        if self.fd < 0:
            return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        (made,) = await asyncio.wrap_future(self.thread.make(self.fd, family))
        return made


@dataclass
class Namespaces:
    """`run` keeps them true. `known` is by cookie."""

    cgroups: Sequence[Path]
    opened: Callable[[Namespace], Awaitable[None]]
    """May raise OSError: then it is tried again at the next scan."""
    closed: Callable[[Namespace], None]
    is_used: Callable[[int], bool]
    """Whether clients' connections are left, by the namespace's cookie."""
    known: dict[int, Namespace] = field(default_factory=dict)

    async def __aenter__(self) -> Namespaces:
        """Those that are there now are open."""
        self._thread = NamespaceThread()
        self._scan = CgroupScan(self.cgroups)
        self._own = find_namespace("self")
        self._soon: dict[Path, int] = {}
        self._processes: set[int] = set()
        self._told = asyncio.Event()
        self._scan_at = asyncio.get_running_loop().time() + _SCAN_S
        asyncio.get_running_loop().add_reader(self._scan.fd, self._note_changes)
        await self._open_own()
        await self._take(await asyncio.to_thread(self._scan.scan), is_whole=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._scan.fd)
        for namespace in list(self.known.values()):
            self._close(namespace)
        self._scan.close()
        self._thread.close()

    def note_process(self, pid: int) -> None:
        """It was refused, since its namespace has no acceptor."""
        self._processes.add(pid)
        self._told.set()

    async def run(self) -> None:
        while True:
            is_whole = not await self._wait()
            if self._processes:
                pids, self._processes = self._processes, set()
                await self._take({inode: pid for pid in pids if (inode := find_namespace(pid))})
            if self._soon:
                folders = list(self._soon)
                self._soon = {path: left - 1 for path, left in self._soon.items() if left > 1}
                await self._take(await asyncio.to_thread(self._scan.look_into, folders))
            if is_whole:
                await self._take(await asyncio.to_thread(self._scan.scan), is_whole=True)

    async def _wait(self) -> bool:
        """Returns whether it is too early for a whole scan."""
        loop = asyncio.get_running_loop()
        limit = _SOON_S if self._soon else max(0.0, self._scan_at - loop.time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), limit)
        self._told.clear()
        if loop.time() < self._scan_at:
            return True
        self._scan_at = loop.time() + _SCAN_S
        return False

    def _note_changes(self) -> None:
        for path in self._scan.take_changed():
            self._soon[path] = _SOON_TIMES
        self._told.set()

    async def _take(self, found: dict[int, int], *, is_whole: bool = False) -> None:
        by_inode = {namespace.inode: namespace for namespace in self.known.values()}
        for inode, pid in found.items():
            if inode in by_inode:
                by_inode[inode].misses = 0
            else:
                await self._open(inode, pid)
        if is_whole:
            self._close_unused(namespace for inode, namespace in by_inode.items() if inode not in found)

    def _close_unused(self, empty: Iterable[Namespace]) -> None:
        for namespace in empty:
            namespace.misses += 1
            if namespace.misses >= _MISSES and namespace.fd >= 0 and not self.is_used(namespace.cookie):
                self._close(namespace)

    async def _open_own(self) -> None:
        with socket.socket() as sock:
            own = Namespace(self._own or 0, namespace_cookie(sock), -1, self._thread)
        await self.opened(own)
        self.known[own.cookie] = own

    async def _open(self, inode: int, pid: int) -> None:
        try:
            fd = open_namespace(pid)
        except OSError:
            return  # the process has ended
        try:
            if os.fstat(fd).st_ino != inode:
                raise OSError("the process has changed its namespace")
            (sock,) = await asyncio.wrap_future(self._thread.make(fd, socket.AF_INET))
            with sock:
                namespace = Namespace(inode, namespace_cookie(sock), fd, self._thread)
            await self.opened(namespace)
        except OSError as error:
            os.close(fd)
            _log.warning("namespace_not_served", extra={"namespace": inode, "pid": pid, "why": str(error)})
            return
        self.known[namespace.cookie] = namespace
        _log.info("namespace_opened", extra={"namespace": inode, "pid": pid})

    def _close(self, namespace: Namespace) -> None:
        del self.known[namespace.cookie]
        self.closed(namespace)
        if namespace.fd >= 0:
            os.close(namespace.fd)
            _log.info("namespace_closed", extra={"namespace": namespace.inode})
