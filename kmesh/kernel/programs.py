"""The instance's programs: adopt the build that is pinned, or have the loader make it; then attach it.

Attaching is apart from loading, since an upgrade must fill new maps before the links turn to programs that read them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmesh.errors import FeatureMissing, KernelError, VerifierRejected
from kmesh.kernel import bpf
from kmesh.kernel.btf import find_offset
from kmesh.kernel.features import Features
from kmesh.kernel.hooks import DELIVERED, HOOKS, MAP_HOOKS, PROGRAMS, STEPS
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.sources import layout_digest, program_digest, program_text
from kmesh.kernel.stream_maps import create_stream_maps
from kmesh.kernel.tables import create_tables

__all__ = ["Build", "attach", "attached_programs", "load", "offset_flags", "remove_stale"]

_log = logging.getLogger(__name__)
_LOADER_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Loaded, pinned programs and the maps they use."""

    maps_dir: Path
    programs_dir: Path
    was_adopted: bool
    """Found pinned from an earlier run; nothing was compiled."""

    def program_infos(self) -> dict[str, bpf.ProgInfo]:
        """By program name."""
        out = {}
        for name in PROGRAMS:
            fd = bpf.get_object(self.programs_dir / name)
            try:
                out[name] = bpf.prog_info(fd)
            finally:
                os.close(fd)
        return out


def load(paths: InstancePaths, features: Features) -> Build:
    """Adopt or build the programs and their maps. Raises KernelError, VerifierRejected, MapError."""
    maps_dir = paths.maps(layout_digest())
    flags = (
        f'-DKM_PIN_DIR="{maps_dir}"',
        f"-DKM_HAS_SET_RETVAL={int(features.has_set_retval)}",
        *offset_flags(),
        "-Wall",
        "-Werror",
        "-Wno-unused-function",
    )
    programs_dir = paths.programs(program_digest(flags))
    adopted = programs_dir.is_dir()
    if not adopted:
        maps_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_tables(maps_dir)
        create_stream_maps(maps_dir)
        _run_loader(flags, programs_dir)
    _pin_beside(maps_dir, programs_dir / DELIVERED)
    return Build(maps_dir=maps_dir, programs_dir=programs_dir, was_adopted=adopted)


def _pin_beside(maps_dir: Path, program: Path) -> None:
    """Where the relay looks, which knows the maps alone."""
    pinned = maps_dir / program.name
    fd = bpf.get_object(program)
    try:
        pinned.unlink(missing_ok=True)
        bpf.pin(fd, pinned)
    finally:
        os.close(fd)


def offset_flags() -> tuple[str, ...]:
    """For the compiler: where the running kernel's own structures have what programs read. Raises: FeatureMissing."""
    offsets = {
        "KM_RMEM_ALLOC_AT": find_offset("sock", "sk_backlog", "rmem_alloc"),
        "KM_COPIED_SEQ_AT": find_offset("tcp_sock", "copied_seq"),
        "KM_USER_DATA_AT": find_offset("sock", "sk_user_data"),
        "KM_INGRESS_LENGTH_AT": find_offset("sk_psock", "ingress_skb", "qlen"),
        "KM_WORK_MUTEX_AT": find_offset("sk_psock", "work_mutex", "owner"),
    }
    with contextlib.suppress(FeatureMissing):  # Linux 6.4 and newer have none
        offsets["KM_WORK_SKB_AT"] = find_offset("sk_psock", "work_state", "skb")
    return tuple(f"-D{name}={offset}" for name, offset in offsets.items())


def _run_loader(flags: tuple[str, ...], programs_dir: Path) -> None:
    started = time.monotonic()
    job = {"text": program_text(), "cflags": flags, "programs": PROGRAMS, "steps": STEPS}
    job["pin_dir"] = str(programs_dir)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "kmesh.kernel.loader"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=_LOADER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KernelError(f"compiling the programs took over {_LOADER_TIMEOUT_S:.0f} s: free memory or CPU") from None
    _raise_on_failure(done)
    _log.info("programs_loaded", extra={"seconds": round(time.monotonic() - started, 3), "path": str(programs_dir)})


def _raise_on_failure(done: subprocess.CompletedProcess[str]) -> None:
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"failed": "start", "why": f"exit status {done.returncode}"}
    failed, why = result["failed"], result["why"]
    if failed is None:
        return
    _log.debug("loader_failed", extra={"stage": failed, "log": done.stderr})
    if failed.startswith("load "):
        raise VerifierRejected(failed.removeprefix("load "), done.stderr)
    if failed == "headers":
        raise KernelError(why)
    if failed == "import":
        raise KernelError(
            f"Python cannot import bcc ({why}): run 'apt-get install python3-bpfcc' and make the virtual environment "
            "from /usr/bin/python3 with --system-site-packages"
        )
    lines = [line for line in done.stderr.strip().splitlines() if "error" in line.lower()] or [why]
    raise KernelError(f"the loader failed to {failed} ({lines[0]}): run with --log-level debug for its output")


def attach(paths: InstancePaths, build: Build, cgroups: Sequence[Path]) -> int:
    """Attach every program to every cgroup, replacing older builds in one step each; returns links changed.

    Links of cgroups that are not named any more are removed. Raises KernelError.
    """
    paths.links.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted: set[Path] = set()
    changed = 0
    _attach_to_maps(build)
    for name, attach_type in HOOKS.items():
        prog_fd = bpf.get_object(build.programs_dir / name)
        try:
            for cgroup in cgroups:
                link = paths.links / f"{cgroup.stat().st_ino}-{name}"
                wanted.add(link)
                changed += _attach_one(link, prog_fd, cgroup, attach_type)
        finally:
            os.close(prog_fd)
    for link in set(paths.links.iterdir()) - wanted:
        link.unlink()
        changed += 1
    return changed


def _attach_to_maps(build: Build) -> None:
    """Replacing what an older build attached. Sockets in a map run what it had when they came."""
    for name, (map_name, attach_type) in MAP_HOOKS.items():
        with contextlib.ExitStack() as stack:
            prog_fd = bpf.get_object(build.programs_dir / name)
            stack.callback(os.close, prog_fd)
            map_fd = bpf.get_object(build.maps_dir / map_name)
            stack.callback(os.close, map_fd)
            bpf.attach_to_map(prog_fd, map_fd, attach_type)


def _attach_one(link: Path, prog_fd: int, cgroup: Path, attach_type: bpf.AttachType) -> bool:
    """Returns whether anything had to change."""
    if link.exists():
        link_fd = bpf.get_object(link)
        try:
            if bpf.link_prog_id(link_fd) == bpf.prog_info(prog_fd).id and _is_attached(prog_fd, cgroup, attach_type):
                return False
            bpf.update_link(link_fd, prog_fd)
            return True
        except OSError as error:
            if error.errno != errno.ENOLINK:  # the cgroup it was made for is gone
                raise KernelError(f"replacing {link.name}: {os.strerror(error.errno or 0)}") from None
            link.unlink()
        finally:
            os.close(link_fd)
    _create_link(link, prog_fd, cgroup, attach_type)
    return True


def _is_attached(prog_fd: int, cgroup: Path, attach_type: bpf.AttachType) -> bool:
    return bpf.prog_info(prog_fd).id in _query(cgroup, attach_type)


def _query(cgroup: Path, attach_type: bpf.AttachType) -> list[int]:
    cgroup_fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return bpf.query_programs(cgroup_fd, attach_type)
    finally:
        os.close(cgroup_fd)


def attached_programs(cgroups: Sequence[Path]) -> dict[Path, set[int]]:
    """Ids of all programs at our attach points of each cgroup; empty for a cgroup that is gone."""
    out: dict[Path, set[int]] = {}
    for cgroup in cgroups:
        try:
            out[cgroup] = {prog for attach_type in HOOKS.values() for prog in _query(cgroup, attach_type)}
        except OSError:
            out[cgroup] = set()
    return out


def _create_link(link: Path, prog_fd: int, cgroup: Path, attach_type: bpf.AttachType) -> None:
    cgroup_fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        link_fd = bpf.create_link(prog_fd, cgroup_fd, attach_type)
    except PermissionError:
        raise KernelError(
            f"cgroup {cgroup} has a program attached that allows no other at {attach_type.name.lower()}: "
            "'bpftool cgroup tree' names it; attach that one with the multi flag, or enrol another cgroup"
        ) from None
    finally:
        os.close(cgroup_fd)
    try:
        bpf.pin(link_fd, link)
    finally:
        os.close(link_fd)


def remove_stale(paths: InstancePaths, build: Build) -> list[Path]:
    """Remove generations that no link uses any more, once the links have turned; returns what went."""
    kept = {build.maps_dir, build.programs_dir, paths.links}
    removed = [path for path in paths.root.iterdir() if path not in kept]
    for folder in removed:
        for path in folder.iterdir():
            path.unlink()
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
    return removed
