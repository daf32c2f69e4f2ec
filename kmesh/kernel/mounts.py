"""The two file systems the kernel side needs: bpf for pins and cgroup2 for attachment."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path

from kmesh.errors import KernelError

__all__ = ["MOUNTS", "find_cgroup2", "list_mounts", "require_bpffs", "require_cgroups"]

MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def list_mounts(kind: str, table: Path = MOUNTS) -> list[Path]:
    """Mount points of file systems of one type, in the order mounted. Source: proc_pid_mounts(5), fstab(5)."""
    rows = (line.split(" ") for line in table.read_text().splitlines())
    points = (row[1] for row in rows if row[2] == kind)
    return [Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), point)) for point in points]


def find_cgroup2(table: Path = MOUNTS) -> Path:
    """The root of the cgroup2 hierarchy. Raises KernelError when it is not mounted."""
    found = list_mounts("cgroup2", table)
    if not found:
        raise KernelError("cgroup2 is not mounted: run 'mount -t cgroup2 none /sys/fs/cgroup' and start again")
    return found[0]


def require_cgroups(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Resolve the cgroups to enrol. Raises KernelError for one that is none, or that contains another."""
    resolved = tuple(path.resolve() for path in paths)
    for path in resolved:
        if not (path / "cgroup.procs").is_file() or (not (path / "cgroup.type").exists() and path not in _roots()):
            raise KernelError(f"{path} is not a cgroup of the hierarchy at {find_cgroup2()}: name one that is")
    for outer in resolved:
        for inner in resolved:
            if outer != inner and inner.is_relative_to(outer):
                raise KernelError(
                    f"cgroup {inner} lies inside {outer}, whose programs cover it already: name only the outer one"
                )
    return tuple(dict.fromkeys(resolved))


def _roots() -> set[Path]:
    return {path.resolve() for path in list_mounts("cgroup2")}


def require_bpffs(path: Path) -> None:
    """See that a bpf file system is mounted at `path`, mounting it there if not. Raises KernelError."""
    if path.resolve() in {mount.resolve() for mount in list_mounts("bpf")}:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if not path.is_dir() or libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, None) != 0:
        code = ctypes.get_errno()
        why = os.strerror(code) if path.is_dir() else "there is no such directory"
        raise KernelError(
            f"no bpf file system at {path}, and mounting one failed ({why}): run 'mount -t bpf bpf {path}' as root"
        )
