"""Cleans up after a sandbox once standard input ends, which it does when the sandbox's process does.

`python -m tests.support.janitor INSTANCE CGROUP FOLDER`
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

from pyroute2 import netns

from kmesh.kernel.uninstall import uninstall
from tests.support.sandbox import BPFFS

_PATIENCE_S = 10.0


def main() -> int:
    instance, cgroup, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    _empty(cgroup)
    uninstall(instance, BPFFS)
    for name in netns.listnetns():
        if name.startswith(f"{instance}-"):
            netns.remove(name)
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if cgroup.exists() else 0


def _empty(cgroup: Path) -> None:
    """Kill what is left inside, then remove the cgroups from the leaves up."""
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _PATIENCE_S
    while "populated 1" in (cgroup / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    cgroup.rmdir()


if __name__ == "__main__":
    sys.exit(main())
