"""Removes what an instance left in the kernel: attachments first, so that traffic is plain before maps go."""

from __future__ import annotations

from pathlib import Path

from kmesh.kernel.paths import InstancePaths

__all__ = ["uninstall"]


def uninstall(instance: str, bpffs: Path) -> list[str]:
    """Detach and unpin everything of `instance` and only that; returns the paths removed, if any.

    Established connections go on; getpeername() on them shows the backend from then on.
    """
    root = InstancePaths(bpffs=bpffs, instance=instance).root
    if not root.is_dir():
        return []
    removed = []
    links = root / "links"
    for folder in sorted(root.iterdir(), key=lambda path: path != links):
        for path in sorted(folder.iterdir()):
            path.unlink()
            removed.append(str(path))
        folder.rmdir()
    root.rmdir()
    removed.append(str(root))
    if not any(root.parent.iterdir()):
        root.parent.rmdir()
    return removed
