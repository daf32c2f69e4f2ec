"""Network namespaces: which process is in which, and sockets made inside one.

A socket stays in the namespace that it was made in. setns(2) moves one thread, so a thread of its own goes in, makes
sockets, and comes back; Python has os.setns only since 3.12.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

__all__ = ["NamespaceThread", "find_namespace", "list_processes", "namespace_cookie", "open_namespace"]

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
_libc = ctypes.CDLL(None, use_errno=True)


def find_namespace(pid: int | str) -> int | None:
    """Inode of the network namespace of a process or thread; None when it is gone."""
    try:
        name = os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115 -- runs for every process of the node
    except OSError:
        return None
    return int(name[5:-1])  # net:[4026531840]


def open_namespace(pid: int | str) -> int:
    """A descriptor of the network namespace of a process, which lives while that is open. Raises OSError."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def namespace_cookie(sock: socket.socket) -> int:
    """Of the socket's namespace, as programs see it: never used again, other than inodes. Raises OSError."""
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int(struct.unpack("<Q", raw)[0])


def list_processes(cgroup: Path) -> list[int]:
    """Of one cgroup2, without those below it; none when it is gone. A threaded cgroup's are its domain's."""
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_bytes().split()]
    except OSError:
        return []


class NamespaceThread:
    """Makes sockets inside namespaces, one request after the other."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kmesh-netns")

    def make(self, namespace: int, family: socket.AddressFamily, count: int = 1) -> Future[Sequence[socket.socket]]:
        """`count` TCP sockets, not blocking, in the namespace of a descriptor. The future raises OSError."""
        return self._executor.submit(_make_inside, namespace, family, count)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _make_inside(namespace: int, family: socket.AddressFamily, count: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            for _ in range(count):
                made.append(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        finally:
            _enter(home)
    except OSError:
        for sock in made:
            sock.close()
        raise
    finally:
        os.close(home)
    return made


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")
