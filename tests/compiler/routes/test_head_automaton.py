"""The head automaton against a plain definition of a head: one regular expression and a few splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.compiler.automata import Machine, Packed, pack_pages
from kmesh.compiler.interpreter.automaton import step
from kmesh.compiler.interpreter.head import Head, read_head
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.compiler.routes.head_automaton import build_head_automaton
from kmesh.records.constants import DEAD_STATE, EVENT_SHIFT, LIMITS, Field, Handover, HeadEvent, Mark
from tests.support.any_heads import any_head, good_head

HEAD = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE) (/[!-\"$-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0-\x08\n-\x1f\x7f]*\r\n)*)\r\n"
)
MARKS = {
    rb"//": Mark.DOUBLE_SLASH,
    rb"/\.": Mark.DOT,
    rb"%": Mark.PERCENT,
    rb"\\": Mark.BACKSLASH,
    rb";": Mark.PARAMETER,
    rb'["<>^`{|}]': Mark.ESCAPABLE,
}
RELAYED = (b"transfer-encoding", b"expect", b"upgrade")
"""Headers that are not the kernel's to honour."""
FRAMING = {b"content-length": int(Field.CONTENT_LENGTH), b"connection": int(Field.CONNECTION)}
ALWAYS = {b"host": int(Field.AUTHORITY), **FRAMING}
HEADERS = (b"x-a", b"x-b", b"x-", b"x-a-", b"accept", b"hos", b"host2", b"user-agent")
PARAMETERS = (b"q", b"qq", b"r", b"", b"q?q", b"?", b"Q")

Fields = list[tuple[int, bytes]]


def header_ids(*names: bytes) -> dict[bytes, int]:
    return {name: header_field(name.decode("latin-1")) for name in names}


def parameter_ids(*names: bytes) -> dict[bytes, int]:
    return {name: parameter_field(name.decode("latin-1")) for name in names}


def pack(headers: Mapping[bytes, int], parameters: Mapping[bytes, int]) -> Packed:
    return pack_pages(build_head_automaton(headers, parameters))


def read(packed: Packed, received: bytes) -> tuple[Fields, int, int] | Handover:
    """(fields with their texts, marks, length of the head)."""
    head = read_head(dict(packed.records), packed.automaton, received)
    if not isinstance(head, Head):
        return head
    fields = [(number, received[start : start + length]) for number, start, length in head.fields]
    return sorted_by_id(fields), head.marks, head.length


def sorted_by_id(fields: Fields) -> Fields:
    """Those of one id stay in order, which is all that counts."""
    return sorted(fields, key=lambda each: each[0])


def parse(
    received: bytes, headers: Mapping[bytes, int], parameters: Mapping[bytes, int]
) -> tuple[Fields, int, int] | None:
    """The plain definition; None for every head that is handed over."""
    found = HEAD.match(received[: LIMITS["HEAD_BYTES"]])
    if not found:
        return None
    method, target, lines = found.groups()
    path, mark, query = target.partition(b"?")
    fields = [(int(Field.METHOD), method), (int(Field.PATH), path), (int(Field.TARGET), target)]
    for part in query.split(b"&") if mark else ():
        name, _, value = part.partition(b"=")
        if name in parameters:
            fields.append((parameters[name], value))
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.lstrip(b" \t")
        if name.lower() in RELAYED:
            return None
        if name.lower() in headers:
            fields.append((headers[name.lower()], value.rstrip(b" \t")))
            if len(value) - len(value.rstrip(b" \t")) > 16:
                return None
    if len(fields) > LIMITS["REQUEST_FIELDS"]:
        return None
    marks = sum(mark for pattern, mark in MARKS.items() if re.search(pattern, path))
    return sorted_by_id(fields), marks, found.end()


def check(packed: Packed, received: bytes, headers: Mapping[bytes, int], parameters: Mapping[bytes, int]) -> None:
    got, want = read(packed, received), parse(received, headers, parameters)
    if want is None:
        assert isinstance(got, Handover), received
    else:
        assert got == want, received


@settings(max_examples=150, deadline=None)
@given(
    headers=st.sets(st.sampled_from(HEADERS)),
    parameters=st.sets(st.sampled_from(PARAMETERS)),
    seed=st.integers(0, 1 << 32),
)
def test_any_head(headers: set[bytes], parameters: set[bytes], seed: int) -> None:
    random = Random(seed)
    header_names, parameter_names = header_ids(*headers), parameter_ids(*parameters)
    packed = pack(header_names, parameter_names)
    for _ in range(10):
        received = any_head(random)
        check(packed, received, header_names | ALWAYS, parameter_names)


@settings(max_examples=300, deadline=None)
@given(
    query=st.lists(st.sampled_from([b"q", b"r", b"Q", b"?", b"=", b"&", b"#", b"/", b"%"]), max_size=9).map(b"".join),
    parameters=st.sets(st.sampled_from(PARAMETERS)),
)
def test_any_query(query: bytes, parameters: set[bytes]) -> None:
    names = parameter_ids(*parameters)
    check(pack({}, names), b"GET /a?" + query + b" HTTP/1.1\r\n\r\n", {}, names)


def test_every_byte_at_every_place() -> None:
    headers, parameters = header_ids(b"x-a", b"x-"), parameter_ids(b"q", b"")
    packed = pack(headers, parameters)
    headers |= ALWAYS
    good = b"GET /a?q=b&r=& HTTP/1.1\r\nhost:a\r\nX-A: b\r\nx:\t\r\n\r\n"
    assert parse(good, headers, parameters)
    for at in range(len(good)):
        for byte in range(256):
            check(packed, good[:at] + bytes((byte,)) + good[at + 1 :], headers, parameters)
            check(packed, good[:at] + bytes((byte,)) + good[at:], headers, parameters)


def test_a_head_that_is_cut_is_incomplete() -> None:
    random = Random(4)
    packed = pack(header_ids(*HEADERS), parameter_ids(*PARAMETERS))
    for _ in range(20):
        head = good_head(random)
        assert isinstance(read(packed, head), tuple)
        assert {read(packed, head[:length]) for length in range(len(head))} == {Handover.INCOMPLETE}


KNOWN = pack(header_ids(b"x-a", b"accept"), parameter_ids(b"q", b"qq", b""))


@pytest.mark.parametrize(
    ("query", "want"),
    [
        (b"", [(b"", b"")]),
        (b"q", [(b"q", b"")]),
        (b"q=", [(b"q", b"")]),
        (b"q=a", [(b"q", b"a")]),
        (b"q=a=b", [(b"q", b"a=b")]),
        (b"q=?", [(b"q", b"?")]),
        (b"?q=a", []),
        (b"qq=a", [(b"qq", b"a")]),
        (b"qqq=a", []),
        (b"r=q=a", []),
        (b"Q=a", []),
        (b"q=a&q&qq", [(b"q", b"a"), (b"q", b""), (b"qq", b"")]),
        (b"&q=a", [(b"", b""), (b"q", b"a")]),
        (b"q=a&", [(b"q", b"a"), (b"", b"")]),
        (b"&&", [(b"", b"")] * 3),
        (b"=a", [(b"", b"a")]),
        (b"r&q", [(b"q", b"")]),
        (b"r=&q", [(b"q", b"")]),
        (b"q=%61/../;", [(b"q", b"%61/../;")]),
    ],
)
def test_query(query: bytes, want: list[tuple[bytes, bytes]]) -> None:
    got = read(KNOWN, b"GET /a?" + query + b" HTTP/1.1\r\n\r\n")
    assert isinstance(got, tuple)
    fields, marks, _ = got
    assert [each for each in fields if each[0] > max(Field)] == sorted_by_id(
        [(parameter_field(name.decode()), value) for name, value in want]
    )
    assert (Field.PATH, b"/a") in fields
    assert marks == 0


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        (b"x-a:b\r\n", [(b"x-a", b"b")]),
        (b"X-A: \t b c\t \r\n", [(b"x-a", b"b c")]),
        (b"x-a:\r\n", [(b"x-a", b"")]),
        (b"x-a: \t \r\n", [(b"x-a", b"")]),
        (b"x-a: a\tb\tc\r\n", [(b"x-a", b"a\tb\tc")]),
        (b"x-a: a:b\r\n", [(b"x-a", b"a:b")]),
        (b"x-a: \xc3\xa9\r\n", [(b"x-a", b"\xc3\xa9")]),
        (b"x-a: " + b" " * 40 + b"b" + b" " * 16 + b"\r\n", [(b"x-a", b"b")]),
        (b"x: b\r\nx-: b\r\nx-ab: b\r\nx-a-: b\r\n", []),
        (b"transfer-encodin: b\r\ntransfer-encoding2: b\r\nexpec: b\r\nupgrades: b\r\nte: b\r\n", []),
        (b"zz: x-a: b\t\r\n", []),
        (b"x-a: b\r\nACCEPT: c\r\nX-a: d\r\n", [(b"x-a", b"b"), (b"accept", b"c"), (b"x-a", b"d")]),
    ],
)
def test_headers(lines: bytes, want: list[tuple[bytes, bytes]]) -> None:
    got = read(KNOWN, b"GET /a HTTP/1.1\r\nHOst: a.x\r\n" + lines + b"\r\nbody")
    assert isinstance(got, tuple)
    fields, _, length = got
    assert [each for each in fields if each[0] > max(Field)] == sorted_by_id(
        [(header_field(name.decode()), value) for name, value in want]
    )
    assert (Field.AUTHORITY, b"a.x") in fields
    assert length == len(b"GET /a HTTP/1.1\r\nHOst: a.x\r\n" + lines + b"\r\n")


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (b"/", Mark(0)),
        (b"/a.b/c-_~!$&'()*+,:=@[]", Mark(0)),
        (b"//", Mark.DOUBLE_SLASH),
        (b"/a//", Mark.DOUBLE_SLASH),
        (b"/.", Mark.DOT),
        (b"/a/..b", Mark.DOT),
        (b"/%41", Mark.PERCENT),
        (b"/\\", Mark.BACKSLASH),
        (b"/a;b", Mark.PARAMETER),
        *((b"/" + bytes((byte,)), Mark.ESCAPABLE) for byte in b'"<>^`{|}'),
        (b"/.//%;", Mark.DOT | Mark.DOUBLE_SLASH | Mark.PERCENT | Mark.PARAMETER),
    ],
)
@pytest.mark.parametrize("query", [b"", b"?", b"?q=//.%;\\"])
def test_marks(path: bytes, query: bytes, want: Mark) -> None:
    got = read(KNOWN, b"GET " + path + query + b" HTTP/1.1\r\n\r\n")
    assert isinstance(got, tuple)
    assert got[1] == want


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"])
def test_methods(method: bytes) -> None:
    want = [(Field.METHOD, method), (Field.PATH, b"/"), (Field.TARGET, b"/")]
    assert read(KNOWN, method + b" / HTTP/1.1\r\n\r\n") == (want, 0, len(method) + 15)


@pytest.mark.parametrize(
    ("received", "want"),
    [
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b" / HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"get / HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"GETS / HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"P / HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"CONNECT a.x:80 HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"PRI * HTTP/2.0\r\n\r\n", Handover.METHOD),
        (b"GET\t/ HTTP/1.1\r\n\r\n", Handover.METHOD),
        (b"GET  / HTTP/1.1\r\n\r\n", Handover.TARGET),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", Handover.TARGET),
        (b"GET http://a.x/ HTTP/1.1\r\n\r\n", Handover.TARGET),
        (b"GET ?q HTTP/1.1\r\n\r\n", Handover.TARGET),
        (b"GET /#a HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /?q=#a HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /?#a HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /?q=\x7f HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /\tHTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET /\r\n", Handover.MALFORMED),
        (b"GET / \r\n", Handover.MALFORMED),
        (b"GET /  HTTP/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET / http/1.1\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.0\r\n\r\n", Handover.VERSION),
        (b"GET / HTTP/2\r\n\r\n", Handover.VERSION),
        (b"GET / HTTP/1.10\r\n\r\n", Handover.VERSION),
        (b"GET / HTTP/1\r\n\r\n", Handover.VERSION),
        (b"GET / HTTP/1.1 \r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\n\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\n x-a: b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a: b\r\n\tc\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a : b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-z\t: b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\n: b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx(z: b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-\xc3: b\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a: b\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-z: b\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a: b\rc\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-z: \0\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a: \x7f\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nx-a: b" + b" " * 17 + b"\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\n\rb", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\n\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 22 + b"\r\n", Handover.FIELDS),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Handover.FRAMING),
        (b"GET / HTTP/1.1\r\ntransfer-encoding:\r\n\r\n", Handover.FRAMING),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n", Handover.MALFORMED),
        (b"GET / HTTP/1.1\r\nEXPECT: 100-continue\r\n\r\n", Handover.FRAMING),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", Handover.FRAMING),
        (b"GET /?" + b"&" * 22 + b" HTTP/1.1\r\n\r\n", Handover.FIELDS),
        (b"", Handover.INCOMPLETE),
        (b"GET /" + b"a" * LIMITS["HEAD_BYTES"], Handover.HEAD_SIZE),
    ],
)
def test_handed_over(received: bytes, want: Handover) -> None:
    assert read(KNOWN, received) == want


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({b":path": 9, b"x a": 9, b"": 9, b"x\xc3\xa9": 9, b"x:y": 9}, {}),
        ({}, {b"a b": 9, b"a#": 9, b"a&b": 9, b"a=b": 9, b"\xc3\xa9": 9, b"a\n": 9}),
        ({b"host": 9}, {}),
        (dict.fromkeys(FRAMING, 9), {}),
        (dict.fromkeys(RELAYED, 9), {}),
    ],
    ids=["headers", "parameters", "host is the authority already", "framing", "relayed"],
)
def test_names_that_change_nothing(headers: dict[bytes, int], parameters: dict[bytes, int]) -> None:
    assert pack(headers, parameters) == pack({}, {})


@pytest.mark.parametrize(("name", "number"), FRAMING.items())
def test_framing_is_noted_each_time(name: bytes, number: int) -> None:
    lines = b"%s: 5 \r\n%s:\r\n%s2: b\r\n" % (name.upper(), name, name)
    got = read(KNOWN, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert isinstance(got, tuple)
    assert [text for found, text in got[0] if found == number] == [b"5", b""]


def test_a_name_may_hold_any_token() -> None:
    name = b"!#$%&'*+-.^_`|~09az"
    packed = pack({name: 1 << 63}, {})
    got = read(packed, b"GET / HTTP/1.1\r\n" + name.upper() + b": b\r\n\r\n")
    assert isinstance(got, tuple)
    assert (1 << 63, b"b") in got[0]


def transitions(machine: Machine) -> list[tuple[int, int, int, int]]:
    """(state, byte, next state, event) of all."""
    words = (
        (state, byte, row.target(machine.classes[byte]))
        for state, row in enumerate(machine.rows)
        for byte in range(256)
    )
    return [(state, byte, word & DEAD_STATE, word >> EVENT_SHIFT) for state, byte, word in words]


def test_every_event_keeps_its_promise() -> None:
    machine = build_head_automaton(header_ids(*HEADERS), parameter_ids(*PARAMETERS))
    every = transitions(machine)
    stays = {(state, byte) for state, byte, target, event in every if (target, event) == (state, 0)}
    for state, byte, target, event in every:
        if event >= HeadEvent.HANDOVER:
            assert event - HeadEvent.HANDOVER in (
                *(Handover.MALFORMED, Handover.METHOD, Handover.TARGET, Handover.VERSION, Handover.FRAMING),
            )
            assert (event - HeadEvent.HANDOVER == Handover.FRAMING) <= (byte == ord(":")), "a whole name, no other"
        assert (target == DEAD_STATE) == (event >= HeadEvent.HANDOVER or event == HeadEvent.HEAD_END)
        if event in (HeadEvent.VALUE, HeadEvent.SKIP):
            assert all((target, skipped) in stays for skipped in range(256) if skipped >= 0x20 and skipped != 0x7F)
        if event in (HeadEvent.NAME, HeadEvent.BARE, HeadEvent.BARE + HeadEvent.TARGET_END):
            assert machine.outputs[state]
        if HeadEvent.TARGET_END <= event < HeadEvent.HANDOVER:
            assert byte == ord(" ")
            assert event - HeadEvent.TARGET_END in (HeadEvent.NONE, HeadEvent.VALUE_END, HeadEvent.BARE)


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ((b"accept", b"user-agent", b"x-z"), 1),
        ((b"connection", b"content-length"), 5),
        (HEADERS, 1 + 2 * len(HEADERS)),
    ],
    ids=["none is known", "of framing", "all are known"],
)
def test_header_lines_are_read_from_two_pages(headers: tuple[bytes, ...], want: int) -> None:
    """The reader goes over to the page of lines once, and from there once for the end of a name that is known."""
    known = headers if headers is HEADERS else ()
    packed = pack(header_ids(*known), parameter_ids(*PARAMETERS))
    table, state, crossed = dict(packed.records), 0, 0
    lines = b"".join(b"%s: a\r\n" % name for name in headers)
    for byte in b"GET /a/b?q=1&r=2 HTTP/1.1\r\nHost: a.x\r\n" + lines + b"\r":
        target = step(table, packed.automaton, state, byte).state
        crossed += target // LIMITS["PAGE_SLOTS"] != state // LIMITS["PAGE_SLOTS"]
        state = target
    assert len(packed.records) == 3
    assert crossed <= want
