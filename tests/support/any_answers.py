"""Heads of answers as servers and attackers send them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from kmesh.records.constants import LIMITS
from tests.support.any_heads import CONNECTIONS, LENGTHS

__all__ = ["any_answer"]

_CODES = (b"200", b"200", b"200", b"201", b"204", b"304", b"100", b"101", b"102", b"103", b"404", b"500", b"599")
_ODD_CODES = (b"099", b"000", b"199", b"999", b"20", b"2000", b"2x0", b"", b"+20", b" 20")
_REASONS = (b" OK", b" Not Modified", b" ", b"", b" a\tb", b" \xc3\xa9", b"  OK")
_ODD_STARTS = (b"HTTP/1.0 200 OK", b"HTTP/2 200", b"http/1.1 200 OK", b"HTTP/1.1  200", b"ICY 200")
_NAMES = (b"Server", b"content-lengt", b"Content-Length2", b"Content_Length", b"Connectio", b"Set-Cookie", b"Date")
_BLANKS = (b"", b" ", b" ", b" ", b"\t", b" \t ")


def any_answer(random: Random) -> bytes:
    """Four of five end plainly; a body, or what looks like another answer, may follow."""
    start = b"HTTP/1.1 %s%s" % (random.choice(_CODES), random.choice(_REASONS))
    if random.random() < 0.1:
        start = b"HTTP/1.1 %s OK" % random.choice(_ODD_CODES)
    if random.random() < 0.05:
        start = random.choice(_ODD_STARTS)
    lines = [_line(random, random.choice(_NAMES), b"a") for _ in range(random.choice((0, 1, 2, 5)))]
    for make, share in _FRAMING.items():
        if random.random() < share:
            lines.append(make(random))
    random.shuffle(lines)
    head = b"%s\r\n%s\r\n" % (start, b"".join(lines))
    if random.random() < 0.2:
        head = random.choice((_cut, _change_byte, _drop_byte, _fill_up))(random, head)
    return head + random.choice((b"", b"", b"hello", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))


def _line(random: Random, name: bytes, value: bytes) -> bytes:
    return b"%s:%s%s%s\r\n" % (name, random.choice(_BLANKS), value, random.choice(_BLANKS))


def _length(random: Random) -> bytes:
    name = random.choice((b"Content-Length", b"content-length", b"CONTENT-LENGTH"))
    return _line(random, name, b"5" if random.random() < 0.5 else random.choice(LENGTHS))


def _connection(random: Random) -> bytes:
    return _line(random, random.choice((b"Connection", b"connection")), random.choice(CONNECTIONS))


def _transfer_encoding(random: Random) -> bytes:
    value = random.choice((b"chunked", b"identity", b"", b"gzip, chunked", b"xchunked"))
    return _line(random, random.choice((b"Transfer-Encoding", b"transfer-encoding")), value)


_FRAMING: dict[Callable[[Random], bytes], float] = {
    _length: 0.8,
    lambda random: _length(random): 0.08,
    _connection: 0.3,
    lambda random: _connection(random): 0.03,
    _transfer_encoding: 0.1,
}
"""Each line, and how often it comes; twice, seldom."""


def _cut(random: Random, head: bytes) -> bytes:
    return head[: random.randrange(len(head))]


def _change_byte(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head))
    return head[:at] + random.randbytes(1) + head[at + 1 :]


def _drop_byte(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head))
    return head[:at] + head[at + 1 :]


def _fill_up(random: Random, head: bytes) -> bytes:
    """To end within a few bytes of what is read at most."""
    length = LIMITS["HEAD_BYTES"] - len(head) - len(b"x-z: \r\n") + random.choice((-2, -1, 0, 1, 2))
    return head[:-2] + b"x-z: " + b"z" * length + b"\r\n\r\n"
