"""Heads of requests as clients and attackers send them: good ones, odd ones, and bytes that are no head at all.

Names, hosts and values are few, so that what routes look at comes often, more than once, and in every place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from kmesh.records.constants import LIMITS

__all__ = ["CONNECTIONS", "DEFAULT_WORDS", "HOSTILITIES", "LENGTHS", "Words", "any_head", "good_head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What heads are made of."""

    hosts: Sequence[bytes]
    paths: Sequence[bytes]
    queries: Sequence[bytes]
    """Each with its question mark, or empty."""
    names: Sequence[bytes]
    """Of headers other than Host."""
    values: Sequence[bytes]


DEFAULT_WORDS = Words(
    hosts=(
        *(b"a.x", b"A.x", b"b.a.x", b"a.y", b"a.bc", b"a.x:80", b"b:81", b"b:", b"b:00080", b"b:000080", b"a:80:80"),
        *(
            b"[::1]",
            b"[::1]:80",
            b"[::1]:",
            b"b.",
            b"b.:80",
            b"b:80.",
            b"b.:1:80",
            b"*.x",
            b"a.*",
            b"*",
            b":80",
            b"c",
        ),
        *(b"[a]:b:80", b"a.:]", b"x" * 168, b"x" * 164 + b":80", b"x" * 169),
    ),
    paths=(
        *(
            b"/",
            b"/a",
            b"/A",
            b"/ab",
            b"/a/",
            b"/a/b",
            b"/a/bc",
            b"/b",
            b"/b/a",
            b"/a;x",
            b"/a;x/b",
            b"/a//b",
            b"//a",
        ),
        *(
            b"/a/./b",
            b"/a/../b",
            b"/a%2Fb",
            b"/%61",
            b"/a%25",
            b"/b\\a",
            b"/a.b",
            b"/.a",
            b"/a|b",
            b"/a^",
            b"/`",
            b"/<",
        ),
    ),
    queries=(
        *(
            b"",
            b"",
            b"?",
            b"?q",
            b"?q=",
            b"?q=a",
            b"?q=ab&q=b",
            b"?q&q=a",
            b"?r&q=1",
            b"?Q=a",
            b"?q=a=b&r=b",
            b"?&q=12",
        ),
        *(b"?q=a?b", b"?=a", b"?q=a&", b"?&&", b"?q=/../;%", b"?qq=a&rq=b&r"),
    ),
    names=(
        b"x-a",
        b"X-A",
        b"x-b",
        b"X-B",
        b"x-a-",
        b"x-",
        b"accept",
        b"Accept",
        b"user-agent",
        b"x-c",
        b"hos",
        b"host2",
    ),
    values=(
        b"a",
        b"b",
        b"ab",
        b"A",
        b"aB",
        b"1",
        b"12",
        b"a,b",
        b"",
        b"b c",
        b"-1",
        b"a\tb",
        b"\xc3\xa9",
        b"application/grpc",
    ),
)
_METHODS = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")
_OTHER_METHODS = (b"CONNECT", b"get", b"GE", b"GETS", b"", b"PROPFIND", b"G\0T", b"PURGE")
_VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/1.10",
    b"HTTP/2",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP",
    b"",
    b"HTTP/1.\xb1",
)
_TARGETS = (
    b"*",
    b"http://a.x/a",
    b"HTTPS://a.x",
    b"a.x:80",
    b"a",
    b"?q=a",
    b"",
    b"/a#b",
    b"/a b",
    b"/\xc3\xa9",
    b"/\x7f",
    b"/\t",
)
_RELAYED = (b"Transfer-Encoding", b"transfer-encoding", b"Expect", b"Upgrade", b"upgrade")
LENGTHS = (
    *(b"0", b"1", b"5", b"10", b"65536", b"65537", b"1048576", b"1048577", b"999999999999999", b"00000000000000005"),
    *(b"000000000000005", b"0000000000000005", b"9999999999999999", b"18446744073709551621", b"4294967301", b""),
    *(b"+5", b"-5", b"5 5", b"5,5", b"5, 5", b"5;", b"0x5", b"5e0", b"5.0", b"\xb2", b"a", b"5\t5", b",", b"05"),
)
"""Of bodies, as Content-Length has them and should not."""
CONNECTIONS = (
    *(b"close", b"Close", b"CLOSE", b"keep-alive", b"Keep-Alive", b"KEEP-ALIVE", b"keep-alive, close", b"upgrade"),
    *(b"close, te", b"TE", b"te, keep-alive", b"keep-alive,", b"", b"keep-aliv", b"keep-alivee", b"keep_alive"),
    *(b"k\xe5ep-alive", b"Keep-Alive, Upgrade", b"content-length", b"close\tkeep-alive", b"Keep-\xc1live"),
)
_TLS_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(64))
_BLANKS = (b"", b" ", b" ", b" ", b"\t", b" \t ", b"  ")
_HEAD_BYTES = LIMITS["HEAD_BYTES"]


def good_head(random: Random, words: Words = DEFAULT_WORDS) -> bytes:
    """One that a strict reader accepts, though its Host or path may be odd."""
    target = random.choice(words.paths) + random.choice(words.queries)
    lines = [_line(random, random.choice((b"Host", b"host", b"HOST")), random.choice(words.hosts))]
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        lines.append(_line(random, random.choice(words.names), random.choice(words.values)))
    random.shuffle(lines)
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (random.choice(_METHODS), target, b"".join(lines))


def any_head(random: Random, words: Words = DEFAULT_WORDS) -> bytes:
    """Half of them good; the others are made of good ones in one way, seldom two. A body may follow."""
    head = good_head(random, words)
    while random.random() < 0.5:
        head = random.choice(HOSTILITIES)(random, head)
    return head + random.choice((b"", b"", b"", b"body", good_head(random, words)))


def _line(random: Random, name: bytes, value: bytes) -> bytes:
    return b"%s:%s%s%s\r\n" % (name, random.choice(_BLANKS), value, random.choice(_BLANKS))


# What is done to a good head


def _cut(random: Random, head: bytes) -> bytes:
    return head[: random.randrange(len(head) + 1)]


def _change_byte(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head) + 1)
    return head[:at] + random.randbytes(1) + head[at + 1 :]


def _flip_bit(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head) or 1)
    return head[:at] + bytes(byte ^ 1 << random.randrange(8) for byte in head[at : at + 1]) + head[at + 1 :]


def _insert_byte(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head) + 1)
    return (
        head[:at]
        + random.choice((b"\0", b"\t", b"\n", b"\r", b" ", b"\x7f", b"\x80", b"\xff", b":", b"%"))
        + head[at:]
    )


def _delete_byte(random: Random, head: bytes) -> bytes:
    at = random.randrange(len(head) + 1)
    return head[:at] + head[at + 1 :]


def _break_line_end(random: Random, head: bytes) -> bytes:
    """One of its line ends, the last often."""
    ends = [at for at in range(len(head)) if head.startswith(b"\r\n", at)] or [len(head)]
    at = random.choice((random.choice(ends), ends[-1]))
    return (
        head[:at] + random.choice((b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b" \r\n")) + head[at + 2 :]
    )


def _set_method(random: Random, head: bytes) -> bytes:
    return random.choice(_OTHER_METHODS) + head[head.find(b" ") :]


def _set_target(random: Random, head: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    return method + b" " + random.choice(_TARGETS) + rest[rest.find(b" ") :]


def _set_version(random: Random, head: bytes) -> bytes:
    return head.replace(b"HTTP/1.1", random.choice(_VERSIONS), 1)


def _add_lines(make: Callable[[Random], bytes]) -> Callable[[Random, bytes], bytes]:
    """Lines somewhere among those of the head."""

    def add(random: Random, head: bytes) -> bytes:
        ends = [at + 2 for at in range(len(head)) if head.startswith(b"\r\n", at)]
        at = random.choice(ends[:-1] or [len(head)])
        return head[:at] + make(random) + head[at:]

    return add


def _host_again(random: Random) -> bytes:
    return _line(random, b"Host", random.choice((b"a.x", b"", b"b")))


def _odd_name(random: Random) -> bytes:
    name = random.choice((b"x-a ", b" x-a", b"", b"x a", b"x-a\t", b"x\x80", b"(x)", b"x-a\0", b"Host "))
    return _line(random, name, b"a")


def _odd_value(random: Random) -> bytes:
    value = random.choice(
        (b"a\0b", b"a\x7fb", b"a\rb", b"\x80\xff", b"a\tb", b"a\x01", b"\t", b" ", b"a" + b" " * 40 + b"b")
    )
    return _line(random, random.choice((b"x-a", b"x-z", b"accept")), value)


def _framing(random: Random) -> bytes:
    """What says where a body ends and what becomes of the connection, well or badly."""
    name = random.choice((b"Content-Length", b"content-length", b"Connection", b"CONNECTION", *_RELAYED))
    if name.lower() == b"content-length":
        return _line(random, name, random.choice(LENGTHS))
    if name.lower() == b"connection":
        return _line(random, name, random.choice(CONNECTIONS))
    return _line(random, name, random.choice((b"chunked", b"100-continue", b"websocket", b"", b"gzip, chunked")))


def _many_blanks(random: Random) -> bytes:
    """Behind a value: 16 are cut, not 17."""
    blanks = bytes(random.choices(b" \t", k=random.choice((14, 15, 16, 17, 18, 40))))
    return random.choice((b"x-a: a", b"x-a:", b"x-z: a", b"Host: a.x", b"accept:  b")) + blanks + b"\r\n"


def _long_value(random: Random) -> bytes:
    length = random.choice((100, 1000, 7900, _HEAD_BYTES, 2 * _HEAD_BYTES)) + random.randrange(300)
    value = bytes(random.choices(b"abc \t,\x80~", k=length))
    return random.choice((b"x-a: ", b"x-z: ")) + value.strip() + b"\r\n"


def _long_name(random: Random) -> bytes:
    return random.choice((b"x-a", b"x-z")) * random.choice((30, 300, 3000)) + b": a\r\n"


def _many_lines(random: Random) -> bytes:
    """Up to more than a head, or a list of fields, can hold."""
    lines = random.choice((10, 20, 22, 25, 100, 900))
    names = random.choice(((b"x-a",), (b"x-z",), (b"x-a", b"accept", b"x-z", b"x-b")))
    return b"".join(_line(random, random.choice(names), random.choice((b"a", b"", b"ab"))) for _ in range(lines))


def _no_host(_: Random, head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"host:"))


def _many_parameters(random: Random, head: bytes) -> bytes:
    """Of one name, up to more than a list of fields can hold."""
    method, _, rest = head.partition(b" ")
    query = b"&".join(random.choices((b"q", b"q=a", b"q=", b"r=b", b"z"), k=random.choice((5, 18, 25, 200))))
    return b"%s /a?%s %s" % (method, query, rest.partition(b" ")[2])


def _long_target(random: Random, head: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    return b"%s /a%s %s" % (
        method,
        random.choice((b"b", b"/", b"a?")) * random.choice((99, 3000, 9000)),
        rest.partition(b" ")[2],
    )


def _fill_up(random: Random, head: bytes) -> bytes:
    """To end within a few bytes of what is read at most."""
    length = _HEAD_BYTES - len(head) - len(b"x-z: \r\n") + random.choice((-8, -2, -1, 0, 0, 1, 2, 8))
    return head[:-2] + b"x-z: " + b"z" * length + b"\r\n\r\n"


def _not_http(random: Random, _: bytes) -> bytes:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    noise = random.randbytes(random.randrange(100))
    return random.choice((preface, _TLS_HELLO, b"", b"\r\n\r\n", b"SSH-2.0-x\r\n", noise))


def _empty_line_first(_: Random, head: bytes) -> bytes:
    return b"\r\n" + head


HOSTILITIES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_cut, _change_byte, _change_byte, _flip_bit, _flip_bit, _insert_byte, _delete_byte, _break_line_end),
    *(_set_method, _set_target, _set_version, _no_host, _many_parameters, _long_target, _fill_up, _not_http),
    *(_empty_line_first, _add_lines(_host_again), _add_lines(_odd_name), _add_lines(_odd_value)),
    *(_add_lines(_framing), _add_lines(_many_blanks), _add_lines(_long_value), _add_lines(_long_name)),
    _add_lines(_many_lines),
)
"""Ways to make a worse head of a head, or of what another way left of it."""
