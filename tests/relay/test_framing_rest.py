"""Where answers go on that the kernel left."""

from __future__ import annotations

import pytest

from kmesh.records.constants import BodyPhase
from kmesh.relay.framing import BadFraming
from kmesh.relay.framing_rest import continue_framer

REST = b"3\r\nabc\r\n0\r\n\r\n"

CASES = [
    (BodyPhase.LENGTH, 3, b"abc"),
    (BodyPhase.SIZE, 0, REST),
    (BodyPhase.DIGITS, 0x1, b"0\r\n" + bytes(16) + b"\r\n" + REST),
    (BodyPhase.DIGITS, 0, b"0\r\n\r\n"),
    (BodyPhase.DIGITS, 3, b";a=b\r\nabc\r\n0\r\n\r\n"),
    (BodyPhase.SIZE_END, 3, b"\nabc\r\n" + REST),
    (BodyPhase.SIZE_END, 0, b"\n\r\n"),
    (BodyPhase.DATA, 2, b"bc\r\n" + REST),
    (BodyPhase.DATA_CR, 0, b"\r\n" + REST),
    (BodyPhase.DATA_LF, 0, b"\n" + REST),
    (BodyPhase.TRAILER, 0, b"\r\n"),
    (BodyPhase.TRAILER, 0, b"x: y\r\n\r\n"),
    (BodyPhase.LAST_LF, 0, b"\n"),
    (BodyPhase.END, 0, b""),
]


@pytest.mark.parametrize(("phase", "remaining", "rest"), CASES)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_the_rest_is_taken_and_no_more(phase: BodyPhase, remaining: int, rest: bytes, step: int) -> None:
    framer = continue_framer(phase, remaining)
    received = rest + b"evil"
    taken, at_hand = 0, 0
    while not framer.is_done:
        at_hand = min(at_hand + step, len(received))
        taken += framer.walk(memoryview(received[taken:at_hand]))
        assert taken < len(rest) or framer.is_done
    assert taken == len(rest)


@pytest.mark.parametrize(
    ("phase", "rest"),
    [(BodyPhase.SIZE_END, b"x\nabc\r\n"), (BodyPhase.DATA_CR, b"xx"), (BodyPhase.DATA_LF, b"x")],
)
def test_what_is_no_chunk_is_refused(phase: BodyPhase, rest: bytes) -> None:
    with pytest.raises(BadFraming):
        continue_framer(phase, 3 if phase is BodyPhase.SIZE_END else 0).walk(memoryview(rest))
