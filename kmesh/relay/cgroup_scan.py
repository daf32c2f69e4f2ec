"""Which network namespaces the processes of some cgroups are in, looked at often and cheaply.

Folders below the cgroups are watched by inotify: a new one is told, and so is each that gets its first process or
loses its last (cgroup.events). A scan reads cgroup.procs of the folders it knows, and looks only at processes that
it has not seen; every WHOLE_S it walks the folders anew, and asks all processes again, since one may change its
namespace (a container's first process does, just after it has entered its cgroup). Blocking; runs in a thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kmesh.kernel.inotify import CREATED, GONE, MODIFIED, Inotify
from kmesh.kernel.namespaces import find_namespace, list_processes

__all__ = ["WHOLE_S", "CgroupScan"]

WHOLE_S = 10.0
_NO_SUBFOLDERS = 2
"""Links of a cgroup's folder without cgroups below."""


class CgroupScan:
    """`fd` is readable when `take_changed` has something. Raises OSError when inotify(7) is not to be had."""

    def __init__(self, cgroups: Sequence[Path]) -> None:
        self._roots = tuple(cgroups)
        self._inotify = Inotify()
        self.fd = self._inotify.fd
        self._folders: set[Path] = set()
        self._namespaces: dict[int, int] = {}
        """Of the processes that were seen at the last scan."""
        self._whole_at = float("-inf")

    def close(self) -> None:
        self._inotify.close()

    def scan(self) -> dict[int, int]:
        """Inodes of all namespaces, each with a process that is in it."""
        now = time.monotonic()
        seen = self._namespaces
        if now - self._whole_at >= WHOLE_S:
            self._whole_at, seen = now, {}
            for root in self._roots:
                self._walk(root)
        processes = {pid for folder in tuple(self._folders) for pid in list_processes(folder)}
        self._namespaces = {pid: inode for pid, inode in _look_up(processes, seen) if inode}
        return {inode: pid for pid, inode in self._namespaces.items()}

    def look_into(self, folders: Iterable[Path]) -> dict[int, int]:
        """Likewise of a few folders, with every process asked anew."""
        processes = {pid for folder in folders for pid in list_processes(folder)}
        found = {pid: inode for pid, inode in _look_up(processes, {}) if inode}
        self._namespaces.update(found)
        return {inode: pid for pid, inode in found.items()}

    def take_changed(self) -> set[Path]:
        """Folders where processes may have come."""
        changed: set[Path] = set()
        for path, mask, name in self._inotify.take():
            if path is None:  # some were lost
                self._whole_at = float("-inf")
                changed.update(self._roots)
            elif mask & GONE:
                self._folders.discard(path)
            elif mask & CREATED and (path / name).is_dir():
                changed.update(self._walk(path / name))
            elif mask & MODIFIED:
                changed.add(path.parent)
        return changed

    def _walk(self, folder: Path) -> set[Path]:
        """Watch it and what is below; returns all of these. What comes meanwhile is found, told, or both."""
        found = set()
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            found.add(path)
            if path not in self._folders:
                self._folders.add(path)
                self._inotify.watch(path, CREATED | GONE)
                self._inotify.watch(path / "cgroup.events", MODIFIED)
            waiting.extend(_list_subfolders(path))
        return found


def _look_up(processes: Iterable[int], seen: dict[int, int]) -> Iterator[tuple[int, int | None]]:
    return ((pid, seen.get(pid) or find_namespace(pid)) for pid in processes)


def _list_subfolders(folder: Path) -> list[Path]:
    try:
        if folder.stat().st_nlink <= _NO_SUBFOLDERS:
            return []
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
