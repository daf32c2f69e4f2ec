"""What the programs keep beside configuration: marks on kmesh's own sockets, and counters of outcomes."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from kmesh.kernel import bpf
from kmesh.records.constants import Reason, SockFlag
from kmesh.records.layout import SOCK

__all__ = ["OutcomeCounters", "OwnSockets", "possible_cpus"]


_OWN = SOCK.pack(bytes(16), 0, 0, SockFlag.OWN, 0, 0, 0)


class OwnSockets:
    """Marks sockets of kmesh's own, so that no program rewrites what they connect to.

    The mark is in the socket's storage, which only a holder of both the socket and this map can write: it cannot be
    forged by a process in the mesh, and goes with the socket.
    """

    def __init__(self, maps_dir: Path) -> None:
        self._fd = bpf.get_object(maps_dir / "km_sock")

    def mark(self, sock: socket.socket) -> None:
        """Call before connect() or the first sendto(). Raises OSError."""
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            bpf.update(self._fd, struct.pack("<i", sock.fileno()), _OWN)

    def close(self) -> None:
        os.close(self._fd)


class OutcomeCounters:
    """How connects and datagrams ended, since the maps were made."""

    def __init__(self, maps_dir: Path) -> None:
        self._fd = bpf.get_object(maps_dir / "km_reason")
        self._cpus = possible_cpus()

    def read(self) -> dict[Reason, int]:
        """Totals over all CPUs."""
        out = {}
        for reason in Reason:
            raw = bpf.lookup(self._fd, struct.pack("<I", reason), 8 * self._cpus) or bytes(8 * self._cpus)
            out[reason] = sum(struct.unpack(f"<{self._cpus}Q", raw))
        return out

    def close(self) -> None:
        os.close(self._fd)


def possible_cpus() -> int:
    """How many values a per-CPU element has. Source: Documentation/admin-guide/cputopology.rst."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
    return max(int(part.split("-")[-1]) for part in ranges) + 1
