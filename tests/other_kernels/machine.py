"""A virtual machine that boots a kernel on this machine's root file system, which it cannot write to.

Emulated in software, so that it runs the same anywhere. The outcome is what tests/other_kernels/inside writes to the
results folder.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.other_kernels.package import DebianKernel
from tests.support.sandbox import REPO

__all__ = ["run_machine"]

_FOLDERS = ("bin", "changes", "lower", "modules", "proc", "root")
_BUSYBOX = Path("/bin/busybox")
_STOP_S = 10
_TIMED_OUT = 124
"""Exit status of timeout(1)."""


def run_machine(kernel: DebianKernel, results: Path, timeout_s: float) -> bool:
    """Run to power-off, the console on standard output; False when that took too long."""
    with tempfile.TemporaryDirectory(prefix="kmesh-machine-") as folder:
        initramfs = Path(folder) / "initramfs"
        initramfs.write_bytes(gzip.compress(_pack(_lay_out(kernel, Path(folder) / "root")), 1))
        with _started(_command(kernel, initramfs, results), timeout_s) as qemu:
            return qemu.wait() != _TIMED_OUT


@contextmanager
def _started(command: Sequence[str | Path], timeout_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """However the block is left, the machine is off afterwards; timeout(1) sees to that even without this process."""
    guard = ["timeout", f"--kill-after={_STOP_S}", str(timeout_s)]
    qemu = subprocess.Popen([*guard, *command], stdin=subprocess.DEVNULL)
    try:
        yield qemu
    finally:
        qemu.terminate()
        qemu.wait()


def _lay_out(kernel: DebianKernel, root: Path) -> Path:
    """The first root file system: busybox, modules and init."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    shutil.copy(_BUSYBOX, root / "bin" / "busybox")
    for applet in ("chroot", "insmod", "ip", "mkdir", "mount", "poweroff", "sh"):
        (root / "bin" / applet).symlink_to("busybox")
    for module in kernel.modules:
        shutil.copy(module, root / "modules")
    shutil.copy(REPO / "tests" / "other_kernels" / "init", root / "init")
    return root


def _pack(root: Path) -> bytes:
    """As a cpio archive. Source: Documentation/driver-api/early-userspace/buffer-format.rst."""
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    command = [_BUSYBOX, "cpio", "-o", "-H", "newc"]
    return subprocess.run(command, cwd=root, input=names.encode(), capture_output=True, check=True).stdout


def _command(kernel: DebianKernel, initramfs: Path, results: Path) -> list[str | Path]:
    host_root = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-accel", "tcg", "-cpu", "max,la57=off", "-smp", "2", "-m", "2048"),
        *("-kernel", kernel.image, "-initrd", initramfs),
        *("-append", f"console=ttyS0 quiet panic=-1 oops=panic REPO={REPO}"),
        *("-virtfs", host_root),
        *("-virtfs", f"local,path={results},mount_tag=results,security_model=none"),
    ]
