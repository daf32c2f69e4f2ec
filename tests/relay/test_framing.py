"""Bodies in any pieces: where they end, what is left, and what is no body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.relay.framing import (
    BadFraming,
    ChunkFramer,
    CloseFramer,
    Framer,
    LengthFramer,
    NoBody,
    make_framer,
    restore_framer,
)
from kmesh.relay.head import RequestHead, read_request_head

_BEHIND = b"GET / HTTP/1.1\r\n"


def _walk(framer: Framer, body: bytes, cuts: list[int]) -> int:
    """Give `body` as it would come in pieces that end at `cuts`; returns what was taken."""
    taken = 0
    for cut in sorted({*cuts, len(body)}):
        if cut - taken < framer.needs:
            continue
        taken += framer.walk(memoryview(body)[taken:cut])
        restored = restore_framer(framer.state)
        assert restored and type(restored) is type(framer)
        framer = restored
    assert framer.is_done
    return taken


_LINES = st.sampled_from([b"", b";a", b" ;a=b", b';a="b c"', b";" + b"x" * 300])
_CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=70), _LINES, st.integers(0, 4)), max_size=6)
_TRAILERS = st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc:d\r\n"])


@given(_CHUNKS, _TRAILERS, st.lists(st.integers(0, 600), max_size=12))
def test_chunks_end_where_they_were_written_to_end(chunks, trailers, cuts):
    body = b"".join(b"0" * zeros + b"%x%s\r\n%s\r\n" % (len(data), line, data) for data, line, zeros in chunks)
    body += b"0\r\n" + trailers + b"\r\n"
    assert _walk(ChunkFramer(), body + _BEHIND, [cut for cut in cuts if cut < len(body)]) == len(body)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9))
def test_a_length_ends_after_it(body, cuts):
    assert _walk(LengthFramer(len(body)), body + _BEHIND, cuts) == len(body)


@pytest.mark.parametrize(
    "body",
    [
        *(b"zz\r\n", b"0x3\r\nabc\r\n", b"3\nabc\r\n", b" 3\r\n", b"3 \r\nabc\r\n", b"\r\n", b"-1\r\n", b"+1\r\n"),
        *(b"3\r\nabcd\r\n", b"3\r\nab\r\n0", b"3\r\nabc\n0\r\n", b"3\r\nabc\rx", b"1000000000000000\r\n", b"1_0\r\n"),
        *(b"3;a\nb\r\n", b"3;\x01\r\n", b"3;a\rb\r\n", b"0\r\n\n", b"0\r\nx y: 1\r\n", b"0\r\na: b\r\n c\r\n"),
        *(b"0\r\n: b\r\n", b"0\r\nContent-Length: 5\r\n", b"0\r\ntransfer-encoding : chunked\r\n"),
        b"0\r\nHOST: a\r\n",
        *(b"1" * 4096, b"3;" + b"a" * 4096, b"0\r\n" + b"a: " + b"b" * 4096, b"0\r\n" + b"a: b\r\n" * 11000),
    ],
)
def test_what_is_no_chunk_is_refused(body):
    with pytest.raises(BadFraming):
        ChunkFramer().walk(memoryview(body))


def test_a_line_that_is_not_complete_says_how_much_must_come():
    framer = ChunkFramer()
    assert (framer.walk(memoryview(b"3\r\nabc\r\n10;ab")), framer.needs) == (8, 6)
    assert (framer.walk(memoryview(b"10;ab\r")), framer.needs) == (0, 7)
    assert framer.walk(memoryview(b"10;ab\r\n" + bytes(4))) == 11


@pytest.mark.parametrize("framer", [LengthFramer(1), ChunkFramer(), ChunkFramer(2)])
def test_a_stream_that_ends_before_its_body_is_an_error(framer):
    with pytest.raises(BadFraming):
        framer.end()


def test_the_end_of_the_stream_ends_a_body_without_length():
    framer = CloseFramer()
    assert (framer.walk(memoryview(b"abc")), framer.is_done) == (3, False)
    framer.end()
    restored = restore_framer(framer.state)
    assert isinstance(restored, CloseFramer) and framer.is_done and restored.is_done


def test_nothing_is_restored_where_there_was_nothing():
    assert restore_framer((0, 0, 0)) is None


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        (b"", NoBody),
        (b"content-length: 0\r\n", NoBody),
        (b"content-length: 5\r\n", LengthFramer),
        (b"transfer-encoding: chunked\r\n", ChunkFramer),
    ],
)
def test_the_head_says_how_its_body_ends(lines, want):
    head = read_request_head(b"POST / HTTP/1.1\r\nhost: a\r\n%s\r\n" % lines)
    assert isinstance(head, RequestHead)
    assert isinstance(make_framer(head), want)
