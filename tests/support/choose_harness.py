"""The kernel's decision code, run by BPF_PROG_TEST_RUN on cases that a test makes up.

The C is what the loader compiles, with choose_draws.h before it and choose_harness.c behind it. It is compiled as the
loader does, in a child process (`python -m tests.support.choose_harness`, a JSON job on standard input), over the
pinned maps of an instance, which KernelTables fill.
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
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from socket import htons, ntohs

from kmesh.kernel import bpf
from kmesh.kernel.headers import has_running_kernel_headers, merge_headers
from kmesh.kernel.sources import program_text
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import Family
from kmesh.records.layout import FRONTEND_KEY
from tests.support.sandbox import REPO

__all__ = ["DRAWS", "Choice", "ChooseHarness", "Race"]

DRAWS = 16
"""Numbers a case brings: two for each step of a descent."""
_HERE = Path(__file__).parent
_FLAGS = ("-DKM_HAS_SET_RETVAL=0", "-Wall", "-Werror", "-Wno-unused-function")
_PROGRAMS = ("km_run_choose", "km_run_seal", "km_run_race")
_PROG_TYPE_SCHED_CLS = 3
_PROG_TEST_RUN = 10
_SYSCALL = {"x86_64": 321, "aarch64": 280}
_ETHERNET = bytes(16)
_DESTINATION = struct.Struct(f"<{FRONTEND_KEY.size}sI")
_CHOICE = struct.Struct("<QQ16sHHI")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """struct km_choice, and the draws that it took."""

    reason: int
    address: SocketAddress
    backend: int
    draws_taken: int


class Race(IntEnum):
    """What came of looking up a frontend that has one of two targets at any time."""

    FIRST = 0
    SECOND = 1
    STRAY = 2
    """Another target."""
    MISSING = 3
    BROKEN = 4


class ChooseHarness:
    """The programs, over the maps of `maps_dir`; `programs_dir` is where to pin them. One thread at a time."""

    def __init__(self, maps_dir: Path, programs_dir: Path) -> None:
        job = {"text": _join(program_text()), "maps_dir": str(maps_dir), "programs_dir": str(programs_dir)}
        command = [sys.executable, "-m", "tests.support.choose_harness"]
        subprocess.run(command, input=json.dumps(job), text=True, check=True, cwd=REPO, timeout=120)
        self._programs = {name: bpf.get_object(programs_dir / name) for name in _PROGRAMS}
        self._race_fd = bpf.get_object(programs_dir / "km_race")

    def choose(
        self, destination: SocketAddress, protocol: Protocol, *, is_ipv6_socket: bool, draws: Sequence[int]
    ) -> Choice:
        """km_choose()."""
        key = FRONTEND_KEY.pack(destination.addr16, htons(destination.port), protocol)
        families = Family.V4 | Family.V6 if is_ipv6_socket else Family.V4
        case = _DESTINATION.pack(key, families) + struct.pack(f"<{DRAWS}I", *draws)
        taken, after = _test_run(self._programs["km_run_choose"], case, _CHOICE.size)
        backend, _, addr16, port_be, _, reason = _CHOICE.unpack(after)
        return Choice(reason, SocketAddress(addr16, ntohs(port_be)), backend, taken)

    def seal(self, key: bytes, target: int, action: int) -> tuple[int, int]:
        """The seal over the 20 bytes of `key`, and over its first 8."""
        _, after = _test_run(self._programs["km_run_seal"], key + struct.pack("<IQ", action, target), 16)
        first, second = struct.unpack("<QQ", after)
        return first, second

    def race(self, key: bytes, targets: tuple[int, int], repeat: int) -> None:
        """Look up one frontend over and over. Lets other threads of this process run meanwhile."""
        _test_run(self._programs["km_run_race"], key + struct.pack("<IQQ", 0, *targets), 0, repeat)

    def race_counts(self) -> dict[Race, int]:
        """Since the programs were loaded."""
        found = {outcome: bpf.lookup(self._race_fd, struct.pack("<I", outcome), 8) for outcome in Race}
        return {outcome: int.from_bytes(value or b"", "little") for outcome, value in found.items()}


def _test_run(prog_fd: int, case: bytes, answer_size: int, repeat: int = 1) -> tuple[int, bytes]:
    """What the program returned, and what it wrote behind the case. Source: union bpf_attr, BPF_PROG_TEST_RUN."""
    packet = _ETHERNET + case + bytes(answer_size)
    out = ctypes.create_string_buffer(len(packet))
    given = ctypes.cast(ctypes.c_char_p(packet), ctypes.c_void_p).value
    sizes = len(packet), len(packet)
    row = struct.pack("<4IQQ2I", prog_fd, 0, *sizes, given, ctypes.addressof(out), repeat, 0)
    attr = ctypes.create_string_buffer(row, 80)
    if _libc.syscall(_SYSCALL[platform.machine()], _PROG_TEST_RUN, attr, len(attr)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf(PROG_TEST_RUN): {os.strerror(code)}")
    (returned,) = struct.unpack_from("<i", attr, 4)
    if returned < 0:
        raise ValueError("the program did not find its case in the packet")
    return returned, out.raw[len(packet) - answer_size :]


def _join(text: str) -> str:
    before, behind = ((_HERE / name).read_text() for name in ("choose_draws.h", "choose_harness.c"))
    return f'#line 1 "choose_draws.h"\n{before}{text}\n#line 1 "choose_harness.c"\n{behind}'


def _build(text: str, maps_dir: str, programs_dir: Path) -> None:
    """Compile, load, pin: as kmesh.kernel.loader, but for the program type."""
    from bcc import BPF

    module = BPF(text=text, cflags=[f'-DKM_PIN_DIR="{maps_dir}"', *_FLAGS])
    programs_dir.mkdir()
    for name in _PROGRAMS:
        bpf.pin(module.load_func(name, _PROG_TYPE_SCHED_CLS).fd, programs_dir / name)
    bpf.pin(module["km_race"].map_fd, programs_dir / "km_race")


def main() -> None:
    job = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="kmesh-headers-") as headers:
        if not has_running_kernel_headers():
            merge_headers(Path(headers))
            os.environ["BCC_KERNEL_SOURCE"] = headers
        _build(job["text"], job["maps_dir"], Path(job["programs_dir"]))


if __name__ == "__main__":
    main()
