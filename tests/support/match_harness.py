"""The kernel's matcher, run by BPF_PROG_TEST_RUN on heads that a test makes up.

The C is sources.matcher_text(), with choose_draws.h before it and match_harness.c behind it, over the pinned maps of
an instance, which KernelTables fill. The case is written to and read from a map that is mapped into this process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmesh.kernel import bpf
from kmesh.kernel.sources import matcher_text
from kmesh.records.constants import LIMITS
from tests.support.bpf_programs import ETHERNET, Job, build_programs, join_sources, run_program

__all__ = ["DRAWS", "MatchHarness", "Outcome"]

DRAWS = 16
"""Numbers a case brings: one of chance, and two for each of at most two nodes are taken where tables are sound."""
_PROGRAMS = ("km_run_load", "km_run_head", "km_run_match")
_MAPS = ("km_case", "km_draws", "km_phases")
_NUMBERS = struct.Struct(f"<{DRAWS}I")
_COUNTS = struct.Struct("<4I")
"""struct km_case: draws taken, bursts, is_loading_only, length of the head."""
_HEAD_AT = _NUMBERS.size + _COUNTS.size
_HEAD_ROOM = 16384
_REQUEST = struct.Struct("<QH")
_ANSWER = struct.Struct("<12xIIIQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer in struct km_request, and what it took."""

    handover: int
    route: int
    cluster: int
    draws_taken: int
    bursts: int


class MatchHarness:
    """The programs, over the maps of `maps_dir`; `programs_dir` is where to pin them. One thread at a time."""

    def __init__(self, maps_dir: Path, programs_dir: Path) -> None:
        text = join_sources("choose_draws.h", matcher_text(), "match_harness.c")
        folders = {"maps_dir": str(maps_dir), "programs_dir": str(programs_dir)}
        build_programs(Job(text=text, programs=_PROGRAMS, maps=_MAPS, **folders))
        self._programs = {name: bpf.get_object(programs_dir / name) for name in _PROGRAMS}
        self._phases = bpf.get_object(programs_dir / "km_phases")
        for phase, name in enumerate(_PROGRAMS[1:]):
            bpf.update(self._phases, struct.pack("<I", phase), struct.pack("<I", self._programs[name]))
        case_fd = bpf.get_object(programs_dir / "km_case")
        self._case = mmap.mmap(case_fd, bpf.map_info(case_fd).value_size)

    def match(self, routing: int, head: bytes, port: int, draws: Sequence[int] = (0,) * DRAWS) -> Outcome:
        """km_begin_request(), km_read_head() and km_match()."""
        self._write(routing, head, port, draws, is_loading_only=False)
        run = run_program(self._programs["km_run_load"], ETHERNET)
        if run.returned:
            raise RuntimeError("km_run_load could not make its packet")
        taken, bursts, _, _ = _COUNTS.unpack_from(self._case, _NUMBERS.size)
        handover, route, _, cluster = _ANSWER.unpack_from(self._case, _HEAD_AT + _HEAD_ROOM)
        return Outcome(handover=handover, route=route, cluster=cluster, draws_taken=taken, bursts=bursts)

    def nanoseconds(self, routing: int, head: bytes, port: int, repeat: int = 100_000) -> int:
        """Of one match, without making its packet."""
        means = []
        for is_loading_only in (True, False):
            self._write(routing, head, port, (0,) * DRAWS, is_loading_only=is_loading_only)
            means.append(run_program(self._programs["km_run_load"], ETHERNET, repeat).nanoseconds)
        return means[1] - means[0]

    def verified_instructions(self) -> dict[str, int]:
        """By program."""
        return {name: bpf.prog_info(fd).verified_insns for name, fd in self._programs.items()}

    def _write(self, routing: int, head: bytes, port: int, draws: Sequence[int], *, is_loading_only: bool) -> None:
        head = head[: LIMITS["HEAD_BYTES"] + 1]  # what is behind is not looked at
        _NUMBERS.pack_into(self._case, 0, *draws)
        _COUNTS.pack_into(self._case, _NUMBERS.size, 0, 0, is_loading_only, len(head))
        self._case[_HEAD_AT + 1 : _HEAD_AT + 1 + len(head)] = head
        _REQUEST.pack_into(self._case, _HEAD_AT + _HEAD_ROOM, routing, port)
