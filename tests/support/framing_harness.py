"""The kernel's reading of where messages end, run by BPF_PROG_TEST_RUN on heads that a test makes up.

The C is sources.program_text() with framing_harness.c behind it, over the pinned maps of an instance. The case is
written to and read from a map that is mapped into this process.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from kmesh.compiler.interpreter.framing import AnswerFrame, RequestFrame
from kmesh.kernel import bpf
from kmesh.kernel.sources import program_text
from kmesh.records.constants import LIMITS, Handover
from tests.support.bpf_programs import ETHERNET, Job, build_programs, run_program
from tests.support.sandbox import REPO

__all__ = ["FramingHarness"]

_PROGRAMS = ("km_frame_load", "km_frame_run")
_MAPS = ("km_frame_case", "km_frame_step")
_CASE = struct.Struct("<Q4I")
"""struct km_frame_case: automaton, length, size, is_answer, is_head."""
_RESULT = struct.Struct("<Q6I")
"""Behind it: body, head_length, handover, is_plain, is_interim, is_chunked, closes."""
_HEAD_AT = _CASE.size + _RESULT.size


class FramingHarness:
    """The programs, over the maps of `maps_dir`; `programs_dir` is where to pin them. One thread at a time."""

    def __init__(self, maps_dir: Path, programs_dir: Path) -> None:
        harness = (REPO / "tests" / "support" / "framing_harness.c").read_text()
        text = f'{program_text()}\n#line 1 "framing_harness.c"\n{harness}'
        folders = {"maps_dir": str(maps_dir), "programs_dir": str(programs_dir)}
        build_programs(Job(text=text, programs=_PROGRAMS, maps=_MAPS, **folders))
        self._programs = {name: bpf.get_object(programs_dir / name) for name in _PROGRAMS}
        self._steps = bpf.get_object(programs_dir / "km_frame_step")
        bpf.update(self._steps, struct.pack("<I", 0), struct.pack("<I", self._programs["km_frame_run"]))
        case_fd = bpf.get_object(programs_dir / "km_frame_case")
        self._case = mmap.mmap(case_fd, bpf.map_info(case_fd).value_size)

    def frame_request(self, automaton: int, message: bytes) -> RequestFrame | Handover:
        """km_read_head(), and what km_msg_send() decides before it looks for a connection."""
        result = self._run(automaton, message, is_answer=False, is_head=False)
        body, head_length, handover, is_plain, *_, closes = result
        if not is_plain:
            return Handover(handover)
        is_head = bool(_CASE.unpack_from(self._case)[4])
        return RequestFrame(length=head_length + body, is_head=is_head, closes=bool(closes))

    def frame_answer(self, automaton: int, received: bytes, *, is_head: bool) -> AnswerFrame | Handover | None:
        """km_read_head() and km_measure_answer(); a Handover is the former's."""
        body, head_length, handover, is_plain, is_interim, is_chunked, closes = self._run(
            automaton, received, is_answer=True, is_head=is_head
        )
        if handover:
            return Handover(handover)
        if not is_plain:
            return None
        return AnswerFrame(
            length=None if is_chunked else head_length + body, is_interim=bool(is_interim), closes=bool(closes)
        )

    def _run(
        self, automaton: int, message: bytes, *, is_answer: bool, is_head: bool
    ) -> tuple[int, ...]:
        read = message[: LIMITS["HEAD_BYTES"] + 1]  # what is behind is not looked at
        _CASE.pack_into(self._case, 0, automaton, len(read), len(message), is_answer, is_head)
        self._case[_HEAD_AT + 1 : _HEAD_AT + 1 + len(read)] = read
        if run_program(self._programs["km_frame_load"], ETHERNET).returned:
            raise RuntimeError("km_frame_load could not make its packet")
        result: tuple[int, ...] = _RESULT.unpack_from(self._case, _CASE.size)
        return result
