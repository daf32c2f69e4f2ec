"""The two file systems the kernel side needs: bpf for pins and cgroup2 for attachment."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from kmesh.errors import KernelError

__all__ = ["find_cgroup2", "require_bpffs", "require_cgroups"]

_MOUNTS = Path("/proc/self/mounts")


def _mounted(kind: str) -> list[Path]:
    """Mount points of file systems of one type, in the order mounted."""
    rows = (line.split() for line in _MOUNTS.read_text().splitlines())
    return [Path(row[1].encode().decode("unicode_escape")) for row in rows if row[2] == kind]


def find_cgroup2() -> Path:
    """The root of the cgroup2 hierarchy. Raises KernelError when it is not mounted."""
    found = _mounted("cgroup2")
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
    return {path.resolve() for path in _mounted("cgroup2")}


def require_bpffs(path: Path) -> None:
    """See that a bpf file system is mounted at `path`, mounting it there if not. Raises KernelError."""
    if path.resolve() in {mount.resolve() for mount in _mounted("bpf")}:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if not path.is_dir() or libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, None) != 0:
        code = ctypes.get_errno()
        why = os.strerror(code) if path.is_dir() else "there is no such directory"
        raise KernelError(
            f"no bpf file system at {path}, and mounting one failed ({why}): run 'mount -t bpf bpf {path}' as root"
        )
