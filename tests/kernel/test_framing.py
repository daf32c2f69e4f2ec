"""Where messages end: the kernel equals the reference interpreter, head by head.

`FRAMING_COMPARISONS=1000000` runs that many (nightly) instead of 20,000; a failure names its seed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from kmesh.compiler.automata import pack_pages
from kmesh.compiler.interpreter.framing import AnswerFrame, RequestFrame, frame_answer, frame_request
from kmesh.compiler.interpreter.head import read_head
from kmesh.compiler.routes.answer_automaton import ANSWERS
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.compiler.routes.head_automaton import build_head_automaton
from kmesh.kernel.features import probe_features
from kmesh.maps.image import Fragment, MapImage, MapName
from kmesh.records.constants import LIMITS, Handover
from tests.kernel.conftest import open_kernel
from tests.support.any_answers import any_answer
from tests.support.any_heads import CONNECTIONS, LENGTHS, any_head, good_head
from tests.support.framing_harness import FramingHarness
from tests.support.sandbox import Sandbox

COMPARISONS = int(os.environ.get("FRAMING_COMPARISONS", "20000"))
HEADERS = {b"x-a": header_field("x-a"), b"accept": header_field("accept")}
REQUESTS = pack_pages(build_head_automaton(HEADERS, {b"q": parameter_field("q")}))
PAGES = dict((*REQUESTS.records, *ANSWERS.records))
LONG = 700
"""Bytes of a head that may take more steps than programs may run."""


@pytest.fixture(scope="module")
def harness() -> Iterator[FramingHarness]:
    with Sandbox() as sandbox:
        kernel = open_kernel(sandbox, probe_features())
        pages = Fragment({MapName.PAGE: PAGES})
        kernel.applier.apply(MapImage({("test", "pages"): pages}))
        yield FramingHarness(kernel.build.maps_dir, kernel.paths.root / "framing-harness")


def compare_request(harness: FramingHarness, message: bytes) -> RequestFrame | Handover:
    got = harness.frame_request(REQUESTS.automaton, message)
    head = read_head(PAGES, REQUESTS.automaton, message)
    want = head if isinstance(head, Handover) else frame_request(head, message)
    if got is Handover.STEPS:
        assert len(message) > LONG, message
    else:
        assert got == want, message
    return got


def compare_answer(harness: FramingHarness, received: bytes, *, is_head: bool) -> AnswerFrame | Handover | None:
    got = harness.frame_answer(ANSWERS.automaton, received, is_head=is_head)
    head = read_head(PAGES, ANSWERS.automaton, received)
    want = head if isinstance(head, Handover) else frame_answer(head, received, is_head=is_head)
    assert got == want, (received, is_head)
    return got


def test_any_requests(harness: FramingHarness) -> None:
    seed = Random().getrandbits(32)
    random, ends = Random(seed), Counter[object]()
    for _ in range(COMPARISONS // 2):
        message = add_framing(random, random.choice((any_head, good_head))(random))
        try:
            got = compare_request(harness, message)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        ends[got if isinstance(got, Handover) else "plain"] += 1
    assert ends["plain"] > 0.1 * COMPARISONS / 2, ends
    assert ends[Handover.FRAMING] > 0.05 * COMPARISONS / 2, ends
    assert ends[Handover.PIPELINED], ends


def test_any_answers(harness: FramingHarness) -> None:
    seed = Random().getrandbits(32)
    random, ends = Random(seed), Counter[object]()
    for _ in range(COMPARISONS // 2):
        try:
            got = compare_answer(harness, any_answer(random), is_head=random.random() < 0.2)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        ends[type(got)] += 1
    assert min(ends[AnswerFrame], ends[type(None)], ends[Handover]) > 0.03 * COMPARISONS / 2, ends


def add_framing(random: Random, head: bytes) -> bytes:
    """Half of the heads say how long the body is, or what becomes of the connection; some have such a body."""
    lines, body = b"", b""
    if random.random() < 0.3:
        length = random.choice(LENGTHS)
        lines += b"Content-Length: %s\r\n" % length
        if length.isdigit() and random.random() < 0.5:
            body = b"b" * (min(int(length), 100_000) + random.choice((0, 0, -1, 1)))
    if random.random() < 0.2:
        lines += b"Connection: %s\r\n" % random.choice(CONNECTIONS)
    at = head.find(b"\r\n") + 2
    return head[:at] + lines + head[at:] + body if at > 1 else head


def request(lines: str, body: bytes = b"", method: str = "POST") -> bytes:
    return f"{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1") + body


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        ("", 0),
        ("Content-Length: 0\r\n", 0),
        ("Content-Length: 5\r\n", 5),
        ("Content-Length: \t5 \r\n", 5),
        ("Content-Length: 0005\r\n", 5),
        ("Content-Length: 000000000000005\r\n", 5),
        ("Content-Length: 0000000000000005\r\n", None),
        ("Content-Length: 9999999999999999\r\n", None),
        ("Content-Length: 4294967301\r\n", None),
        ("Content-Length: 65536\r\n", 65536),
        ("Content-Length: 65537\r\n", None),
        ("Content-Length: +5\r\n", None),
        ("Content-Length: -5\r\n", None),
        ("Content-Length: 5 5\r\n", None),
        ("Content-Length: 5,5\r\n", None),
        ("Content-Length: 0x5\r\n", None),
        ("Content-Length: \xb2\r\n", None),
        ("Content-Length:\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", None),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", None),
        ("Connection: keep-alive\r\n", 0),
        ("Connection: Keep-Alive\r\n", 0),
        ("Connection: close\r\n", 0),
        ("Connection: CLOSE\r\nContent-Length: 5\r\n", 5),
        ("Connection: upgrade\r\n", None),
        ("Connection: keep-alive, close\r\n", None),
        ("Connection: te\r\n", None),
        ("Connection: keep-alive\r\nConnection: close\r\n", None),
        ("Connection: keep-alive\r\nConnection: keep-alive\r\n", None),
        ("Connection:\r\n", None),
        ("Connection: keep\x0dalive\r\n", Handover.MALFORMED),
        ("Connection: k\xe5ep-alive\r\n", None),
        ("Keep-Alive: timeout=5\r\nProxy-Connection: close\r\n", 0),
        ("Transfer-Encoding: chunked\r\n", None),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
        ("Transfer-Encoding: \x0bchunked\r\n", None),
        ("Transfer-Encoding : chunked\r\n", Handover.MALFORMED),
        ("Expect: 100-continue\r\n", None),
        ("Upgrade: websocket\r\n", None),
    ],
)
def test_requests(harness: FramingHarness, lines: str, want: int | Handover | None) -> None:
    """Length of the body; None: the relay's."""
    head = request(lines)
    got = compare_request(harness, head)
    if isinstance(want, int) and not isinstance(want, Handover):
        assert got == RequestFrame(length=len(head) + want, is_head=False, closes="close" in lines.lower()[:17])
    else:
        assert got is (want or Handover.FRAMING)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "PUT"])
def test_methods(harness: FramingHarness, method: str) -> None:
    head = request("", method=method)
    assert compare_request(harness, head) == RequestFrame(length=len(head), is_head=method == "HEAD")


@pytest.mark.parametrize("over", [-1, 0, 1, 1000])
@pytest.mark.parametrize("length", [0, 5, LIMITS["REQUEST_BODY_BYTES"]])
def test_bytes_behind_a_request(harness: FramingHarness, length: int, over: int) -> None:
    head = request(f"Content-Length: {length}\r\n")
    got = compare_request(harness, head + b"b" * max(length + over, 0))
    want = RequestFrame(length=len(head) + length, is_head=False)
    assert got == (Handover.PIPELINED if over > 0 else want)


def answer(status: str, lines: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1")


ANSWER_CASES = [
    ("200 OK", "Content-Length: 5\r\n", 5),
    ("200", "Content-Length: 5\r\n", 5),
    ("200 ", "Content-Length: 0\r\n", 0),
    ("200 OK", "Content-Length: 1048576\r\n", 1 << 20),
    ("200 OK", "Content-Length: 1048577\r\n", None),
    ("200 OK", "", None),
    ("200 OK", "Content-Length: 5, 5\r\n", None),
    ("200 OK", "Content-Length: 5\r\nContent-Length: 5\r\n", None),
    ("200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
    ("200 OK", "Transfer-Encoding: chunked\r\n", "chunked"),
    ("200 OK", "Transfer-Encoding: Chunked\r\nConnection: close\r\n", "chunked, close"),
    ("200 OK", "Transfer-Encoding: gzip, chunked\r\n", None),
    ("200 OK", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", None),
    ("204 No Content", "Transfer-Encoding: chunked\r\n", None),
    ("200 OK", "Transfer-Encoding:\r\nContent-Length: 5\r\n", None),
    ("200 OK", "Connection: close\r\nContent-Length: 5\r\n", "5, close"),
    ("200 OK", "Connection: Keep-Alive\r\nContent-Length: 5\r\n", 5),
    ("204 No Content", "", 0),
    ("204 No Content", "Content-Length: 5\r\n", 0),
    ("204 No Content", "Content-Length: 5,5\r\n", None),
    ("304 Not Modified", "Content-Length: 99999999\r\n", 0),
    ("304 Not Modified", "Transfer-Encoding: chunked\r\n", 0),
    ("205 Reset Content", "", None),
    ("100 Continue", "", "interim"),
    ("103 Early Hints", "Link: a\r\n", "interim"),
    ("100 Continue", "Content-Length: 5\r\n", "interim"),
    ("100 Continue", "Transfer-Encoding: chunked\r\n", None),
    ("100 Continue", "Connection: close\r\n", None),
    ("101 Switching Protocols", "Upgrade: websocket\r\nConnection: upgrade\r\n", None),
    ("101 Switching Protocols", "", None),
    ("099 Low", "Content-Length: 5\r\n", None),
    ("000 Low", "Content-Length: 5\r\n", None),
    ("999 High", "Content-Length: 5\r\n", 5),
]


@pytest.mark.parametrize(("status", "lines", "want"), ANSWER_CASES)
def test_answers(harness: FramingHarness, status: str, lines: str, want: int | str | None) -> None:
    """Length of the body; None: the relay's."""
    head = answer(status, lines)
    got = compare_answer(harness, head, is_head=False)
    if want is None:
        assert got is None
    elif want == "interim":
        assert got == AnswerFrame(length=len(head), is_interim=True)
    elif isinstance(want, str):
        length = None if "chunked" in want else len(head) + 5
        assert got == AnswerFrame(length=length, closes="close" in want)
    else:
        assert isinstance(want, int)
        assert got == AnswerFrame(length=len(head) + want)


@pytest.mark.parametrize("lines", ["", "Content-Length: 5\r\n", "Content-Length: 99999999\r\n"])
def test_answers_to_head_have_no_body(harness: FramingHarness, lines: str) -> None:
    head = answer("200 OK", lines)
    assert compare_answer(harness, head, is_head=True) == AnswerFrame(length=len(head))
