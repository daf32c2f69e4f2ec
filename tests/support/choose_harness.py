"""The kernel's decision code, run by BPF_PROG_TEST_RUN on cases that a test makes up.

The C is what the loader compiles, with choose_draws.h before it and choose_harness.c behind it, over the pinned maps
of an instance, which KernelTables fill.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from socket import htons, ntohs

from kmesh.kernel import bpf
from kmesh.kernel.sources import program_text
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import Family
from kmesh.records.layout import FRONTEND_KEY
from tests.support.bpf_programs import ETHERNET, Job, build_programs, join_sources, run_program

__all__ = ["DRAWS", "Choice", "ChooseHarness", "Race"]

DRAWS = 16
"""Numbers a case brings: two for each step of a descent."""
_PROGRAMS = ("km_run_choose", "km_run_seal", "km_run_race")
_DESTINATION = struct.Struct(f"<{FRONTEND_KEY.size}sI")
_CHOICE = struct.Struct("<QQ16sHHI")


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
        text = join_sources("choose_draws.h", program_text(), "choose_harness.c")
        folders = {"maps_dir": str(maps_dir), "programs_dir": str(programs_dir)}
        build_programs(Job(text=text, programs=_PROGRAMS, maps=("km_race",), **folders))
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
    """What the program returned, and what it wrote behind the case."""
    packet = ETHERNET + case + bytes(answer_size)
    run = run_program(prog_fd, packet, repeat, room=len(packet))
    if run.returned < 0:
        raise ValueError("the program did not find its case in the packet")
    return run.returned, run.packet[len(run.packet) - answer_size :]
