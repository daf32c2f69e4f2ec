"""Debian's kernels: from a series ("6.1") to the kernel image and the modules that the virtual machine boots with.

Packages are downloaded through apt, which checks their signatures, and unpacked beside, never installed. What is kept
is about 15 MB a kernel, in ~/.cache/kmesh/kernels.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DebianKernel", "KernelUnavailable", "fetch_kernel"]

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kmesh" / "kernels"
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What the root file system needs. A kernel that has one of them built in does not list it."""
_TIMEOUT_S = 300


class KernelUnavailable(Exception):
    """apt offers no kernel of the series, or could not fetch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianKernel:
    package: str
    image: Path
    modules: tuple[Path, ...]
    """Decompressed, in the order to load them."""


def fetch_kernel(series: str) -> DebianKernel:
    """The newest kernel of `series` that apt offers, from the cache if it is there. Raises KernelUnavailable."""
    package = _newest_package(series)
    kept = _CACHE / package
    if not kept.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE, prefix="unpacking-") as folder:
            _download(package, Path(folder))
            _keep(Path(folder), kept)
    return DebianKernel(package=package, image=kept / "vmlinuz", modules=tuple(sorted((kept / "modules").iterdir())))


def _newest_package(series: str) -> str:
    """By name, which holds the version: linux-image-6.1.0-56-amd64, linux-image-6.12.117+deb12-amd64."""
    pattern = rf"^linux-image-{re.escape(series)}\.[0-9.]+(-[0-9]+|\+[^-]+)?-amd64$"
    out = _run(["apt-cache", "--names-only", "search", pattern])
    names = [line.split()[0] for line in out.splitlines()]
    if not names:
        raise KernelUnavailable(
            f"apt offers no kernel {series}: run 'apt-get update'; kernels newer than the release's own "
            "come from its backports"
        )
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _download(package: str, folder: Path) -> None:
    _run(["apt-get", "download", "-qq", package], cwd=folder)
    _run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(folder / "tree")])


def _keep(folder: Path, kept: Path) -> None:
    """Move what is needed to `kept`, which gets its name only when it is complete."""
    tree, chosen = folder / "tree", folder / "chosen"
    (chosen / "modules").mkdir(parents=True)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), chosen / "vmlinuz")
    release = next((tree / "lib" / "modules").iterdir())
    _run(["/usr/sbin/depmod", "-b", str(tree), release.name])
    for number, module in enumerate(_load_order(release / "modules.dep")):
        content = (release / module).read_bytes()
        name = f"{number:02}-{Path(module).name.removesuffix('.xz')}"
        (chosen / "modules" / name).write_bytes(lzma.decompress(content) if module.endswith(".xz") else content)
    chosen.rename(kept)


def _load_order(modules_dep: Path) -> Iterator[str]:
    """Paths of _MODULES and what they need, each after what it needs. Source: modules.dep(5)."""
    rows = dict(line.split(":") for line in modules_dep.read_text().splitlines())
    paths = {Path(path).name.split(".")[0].replace("-", "_"): path for path in rows}
    wanted = [paths[name] for name in _MODULES if name in paths]
    # A row lists a module's needs so that they load from the last to the first.
    yield from dict.fromkeys(path for module in wanted for path in (*reversed(rows[module].split()), module))


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise KernelUnavailable(f"{' '.join(command)} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout
