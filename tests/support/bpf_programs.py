"""Programs that a test makes up: compiled and pinned as the loader does, and run by BPF_PROG_TEST_RUN.

Compiling is done in a child process (`python -m tests.support.bpf_programs`, a JSON job on standard input), as LLVM
and its 150 MB are not to stay in the one that runs tests.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kmesh.kernel import bpf
from kmesh.kernel.headers import has_running_kernel_headers, merge_headers
from kmesh.kernel.programs import offset_flags
from tests.support.sandbox import REPO

__all__ = ["ETHERNET", "Job", "Run", "build_programs", "join_sources", "run_program"]

ETHERNET = bytes(16)
"""What a packet begins with, with two bytes more that align what follows."""
_HERE = Path(__file__).parent
_FLAGS = ("-DKM_HAS_SET_RETVAL=0", "-Wall", "-Werror", "-Wno-unused-function")
_BUILD_S = 600
"""A few seconds, but minutes where the processor is emulated."""
_PROG_TYPE_SCHED_CLS = 3
_PROG_TEST_RUN = 10
_SYSCALL = {"x86_64": 321, "aarch64": 280}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to build over the pinned maps of an instance."""

    text: str
    maps_dir: str
    programs_dir: str
    """A folder to make; programs and maps are pinned there under their names."""
    programs: Sequence[str]
    maps: Sequence[str] = ()
    """Of the harness's own."""


@dataclass(frozen=True, slots=True)
class Run:
    """Source: union bpf_attr, BPF_PROG_TEST_RUN."""

    returned: int
    packet: bytes
    nanoseconds: int
    """The mean of all repetitions."""


def join_sources(before: str, text: str, behind: str) -> str:
    """`text` between two files of this folder."""
    first, last = (f'#line 1 "{name}"\n{(_HERE / name).read_text()}' for name in (before, behind))
    return f"{first}{text}\n{last}"


def build_programs(job: Job) -> None:
    command = [sys.executable, "-m", "tests.support.bpf_programs"]
    subprocess.run(command, input=json.dumps(asdict(job)), text=True, check=True, cwd=REPO, timeout=_BUILD_S)


def run_program(prog_fd: int, packet: bytes, repeat: int = 1, *, room: int = 0) -> Run:
    """`room` is for the packet that comes back; 0 is for none. Lets other threads of this process run meanwhile."""
    out = ctypes.create_string_buffer(room)
    given = ctypes.cast(ctypes.c_char_p(packet), ctypes.c_void_p).value
    back = ctypes.addressof(out) if room else 0
    row = struct.pack("<4IQQ2I", prog_fd, 0, len(packet), room, given, back, repeat, 0)
    attr = ctypes.create_string_buffer(row, 80)
    if _libc.syscall(_SYSCALL[platform.machine()], _PROG_TEST_RUN, attr, len(attr)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf(PROG_TEST_RUN): {os.strerror(code)}")
    (returned,) = struct.unpack_from("<i", attr, 4)
    return Run(returned, out.raw, *struct.unpack_from("<I", attr, 36))


def _build(job: Job) -> None:
    from bcc import BPF

    module = BPF(text=job.text, cflags=[f'-DKM_PIN_DIR="{job.maps_dir}"', *offset_flags(), *_FLAGS])
    folder = Path(job.programs_dir)
    folder.mkdir()
    for name in job.programs:
        bpf.pin(module.load_func(name, _PROG_TYPE_SCHED_CLS).fd, folder / name)
    for name in job.maps:
        bpf.pin(module[name].map_fd, folder / name)


def main() -> None:
    job = Job(**json.load(sys.stdin))
    with tempfile.TemporaryDirectory(prefix="kmesh-headers-") as headers:
        if not has_running_kernel_headers():
            merge_headers(Path(headers))
            os.environ["BCC_KERNEL_SOURCE"] = headers
        _build(job)


if __name__ == "__main__":
    main()
