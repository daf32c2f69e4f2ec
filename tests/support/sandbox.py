"""A place to run a mesh in: cgroups and an instance of its own, gone afterwards however the run ends.

`pods` is the cgroup to enrol, `mesh` holds everything else (bridge, backends, Envoy). A janitor process watches for
this one to end, by whatever means, then kills what is left in the cgroups and removes pins, cgroups, folders, and
network namespaces that are named after the instance.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from kmesh.kernel.mounts import find_cgroup2

__all__ = ["BPFFS", "REPO", "Sandbox"]

BPFFS = Path("/sys/fs/bpf")
REPO = Path(__file__).resolve().parents[2]
_numbers = itertools.count()
_INTO_CGROUP = 'echo 0 > "$1/cgroup.procs" || exit 70; shift; exec "$@"'


class Sandbox:
    """Context manager. `instance` is free to use with --instance; `folder` is a temporary directory."""

    def __init__(self) -> None:
        self.instance = f"t{os.getpid()}-{next(_numbers)}"
        self.cgroup = find_cgroup2() / f"kmesh-{self.instance}"
        self.pods = self.cgroup / "pods"
        self.mesh = self.cgroup / "mesh"
        self.folder = Path(tempfile.mkdtemp(prefix=f"kmesh-{self.instance}-"))

    def __enter__(self) -> Self:
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "tests.support.janitor", self.instance, str(self.cgroup), str(self.folder)],
            stdin=subprocess.PIPE,
            cwd=REPO,
            start_new_session=True,
        )
        for path in (self.cgroup, self.pods, self.mesh):
            path.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        if self._janitor.wait(timeout=30) != 0:
            raise RuntimeError(f"the janitor could not clean up instance {self.instance}")

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        enrolled: bool = False,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a process inside `pods` (enrolled) or `mesh`, from the repository's root."""
        cgroup = self.pods if enrolled else self.mesh
        return subprocess.Popen(
            ["/bin/sh", "-c", _INTO_CGROUP, "sh", str(cgroup), *map(str, argv)],
            cwd=REPO,
            env={**os.environ, **(env or {})},
            stdout=stdout,
            stderr=stderr,
            stdin=stdin,
            text=True,
        )

    def run(self, argv: Sequence[str | Path], *, enrolled: bool = True, timeout_s: float = 60) -> str:
        """Run to the end and return standard output; a failure raises with both outputs in the message."""
        process = self.spawn(argv, enrolled=enrolled, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=timeout_s)
        if process.returncode != 0:
            raise RuntimeError(f"{argv} exited {process.returncode}\n{out}\n{err}")
        return out

    def python(self, code: str, *args: str, enrolled: bool = True) -> str:
        """Run a snippet of Python and return what it printed."""
        return self.run([sys.executable, "-c", code, *args], enrolled=enrolled)
