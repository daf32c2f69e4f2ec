"""Kernel headers for bcc, which will not compile without a kernel build tree.

The programs use UAPI types only, so headers of any recent kernel serve. bcc finds those of the running kernel by
itself; where there are none, a folder of symbolic links that merges Debian's two header packages stands in.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from kmesh.errors import KernelError

__all__ = ["has_running_kernel_headers", "merge_headers"]

_MODULES = Path("/lib/modules")
_PACKAGES = Path("/usr/src")
_FOLDERS = ("include", "arch/x86/include", "arch/arm64/include")


def has_running_kernel_headers() -> bool:
    release = os.uname().release
    return (_MODULES / release / "build" / "include").is_dir()


def merge_headers(target: Path) -> None:
    """Fill the empty folder `target` with links. Raises KernelError when no headers are installed."""
    newest = max(_PACKAGES.glob("linux-headers-*-common"), key=_version, default=None)
    if newest is None:
        raise KernelError("there are no kernel headers to compile with: run 'apt-get install linux-headers-amd64'")
    stem = newest.name.removesuffix("common")
    sources = [newest, *sorted(p for p in _PACKAGES.glob(f"{stem}*") if p != newest)]
    for source in sources:
        for folder in _FOLDERS:
            if (source / folder).is_dir():
                _link_tree(source / folder, target / folder)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _link_tree(source: Path, target: Path) -> None:
    """Link the entries of `source`, going one level down where another source gave the same folder."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        place = target / entry.name
        if place.is_symlink() and place.is_dir() and entry.is_dir():
            first = place.resolve()
            place.unlink()
            _link_tree(first, place)
        if place.is_dir() and not place.is_symlink():
            _link_tree(entry, place)
        elif not place.is_symlink():
            place.symlink_to(entry)
