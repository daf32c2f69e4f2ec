"""Slots as they are written and as a successor reads them; a writer that is killed leaves a whole one."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kmesh.relay.adoption import measure_step
from kmesh.relay.journal import (
    SLOTS,
    DirectionState,
    ExchangeSlot,
    Identity,
    Journal,
    JournalUnreadable,
    Kind,
    Mode,
    Rest,
    Slot,
    SlotView,
    cookie_of,
    read_slots,
)

CLIENT = Identity(
    kind=Kind.CLIENT, cookie=11, netns=12, client=13, cluster=14, routing=2**63 + 1, address=(bytes(range(16)), 65535)
)
DIRECTION = DirectionState(
    sink=1,
    taken=2,
    written=3,
    state=(4, 5, 6),
    planned=2**40,
    length=8,
    pipe=9,
    mode=Mode.SPLICING,
    framer=3,
    phase=7,
)
WRITER = """
import sys
from kmesh.relay.journal import *
journal = Journal()
slot = journal.slot(9)
slot.open(Identity(kind=Kind.CLIENT, cookie=1))
print(journal.descriptor, flush=True)
number = 0
while True:
    number += 1
    slot.write(DirectionState(taken=number, written=number, state=(number, number, number), planned=number))
"""


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.memory.close()
    os.close(journal.descriptor)


def read(journal: Journal, descriptor: int) -> SlotView | None:
    return next(iter(read_slots(journal.descriptor, [descriptor])), None)


def test_a_slot_is_read_as_it_was_written(journal: Journal) -> None:
    journal.slot(SLOTS - 1).open(CLIENT, DIRECTION)
    assert read(journal, SLOTS - 1) == SlotView(descriptor=SLOTS - 1, identity=CLIENT, direction=DIRECTION)
    assert read(journal, SLOTS - 2) is None


@pytest.mark.parametrize("descriptor", [0, -1, SLOTS])
def test_a_descriptor_without_a_slot(journal: Journal, descriptor: int) -> None:
    with pytest.raises(OverflowError):
        journal.slot(descriptor)


def test_another_part_and_another_socket(journal: Journal) -> None:
    slot = journal.slot(7)
    slot.open(replace(CLIENT, kind=Kind.POOLED), DIRECTION)
    slot.become(Kind.BOUND, client=99)
    got = read(journal, 7)
    assert got and got.identity == replace(CLIENT, kind=Kind.BOUND, client=99)
    assert got.direction == DIRECTION
    slot.close()
    got = read(journal, 7)
    assert got and (got.identity.kind, got.identity.cookie) == (Kind.CLOSED, 11)
    journal.slot(7).open(replace(CLIENT, cookie=500))
    got = read(journal, 7)
    assert got and (got.identity.cookie, got.direction) == (500, DirectionState())


def test_no_journal_of_ours() -> None:
    fd = os.memfd_create("other")
    try:
        with pytest.raises(JournalUnreadable):
            list(read_slots(fd, [5]))
    finally:
        os.close(fd)


def test_a_writer_that_is_killed_leaves_a_whole_slot() -> None:
    for attempt in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert writer.stdout
        fd = os.open(f"/proc/{writer.pid}/fd/{int(writer.stdout.readline())}", os.O_RDONLY)
        time.sleep(0.01 + 0.0007 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        (got,) = read_slots(fd, [9])
        os.close(fd)
        now = got.direction
        assert now.taken > 0
        assert {now.written, *now.state, now.planned} == {now.taken}


def connect() -> tuple[socket.socket, socket.socket]:
    """What opened, and what was accepted; non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opener = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return opener, accepted


@pytest.mark.parametrize(
    ("rest", "want"),
    [
        (Rest(state=(7, 0, 2)), DirectionState(state=(7, 0, 2))),
        (Rest(state=(7, 0, 2), planned=5), DirectionState(mode=Mode.PLANNED, state=(7, 0, 2), planned=5)),
        (
            Rest(state=(7, 0, 2), planned=9, pipe=40, piped=2),
            DirectionState(mode=Mode.SPLICING, state=(7, 0, 2), planned=9, pipe=40, taken=4),
        ),
    ],
    ids=["framer", "ahead", "pipe"],
)
def test_an_exchange_begins_where_another_left_it(journal: Journal, rest: Rest, want: DirectionState) -> None:
    """In one write: what was there before, or all of what is there then."""
    application, client = connect()
    upstream, server = connect()
    with application, client, upstream, server:
        application.sendall(b"123456")
        client.recv(6)
        slots = [_Counted(journal.memory, sock.fileno()) for sock in (client, upstream)]
        ExchangeSlot(*slots).begin(client, upstream, (0, 0), {0: rest})
        taken = want.taken or 6
        assert slots[0].written == [replace(want, sink=cookie_of(upstream), taken=taken)]
        assert slots[1].written == [DirectionState(sink=cookie_of(client))]


class _Counted(Slot):
    def __init__(self, memory: mmap.mmap, descriptor: int) -> None:
        super().__init__(memory, descriptor)
        self.written: list[DirectionState] = []

    def write(self, now: DirectionState) -> None:
        super().write(now)
        self.written.append(now)


def test_an_exchange_is_measured_by_the_sockets_own_counts(journal: Journal) -> None:
    """As a relay writes it: a head that is written anew, then a body in two pieces, of which one goes in part."""
    application, client = connect()
    upstream, server = connect()
    with application, client, upstream, server:
        upstream.sendall(b"earlier")  # pooled connections have a past
        client_slot, upstream_slot = journal.slot(client.fileno()), journal.slot(upstream.fileno())
        client_slot.open(replace(CLIENT, cookie=cookie_of(client)))
        upstream_slot.open(Identity(kind=Kind.RELAYED, cookie=cookie_of(upstream)))
        exchange = ExchangeSlot(client_slot, upstream_slot)
        exchange.begin(client, upstream, (0, 0))
        exchange.note_framer(0, 2)
        application.sendall(b"HEAD" + b"b" * 100)

        def step() -> tuple[Mode, int, int]:
            got = read(journal, client.fileno())
            assert got and got.direction.sink == cookie_of(upstream) and got.direction.framer == 2
            done = measure_step(client, upstream, got.direction, sink_is_upstream=True)
            return got.direction.mode, done.sent, done.took

        exchange.replacing(0, 4, 9, 0)
        assert step() == (Mode.REPLACING, 0, 0)
        upstream.sendall(b"HEAD-ANEW")
        assert step() == (Mode.REPLACING, 9, 0)
        client.recv(4)
        assert step() == (Mode.REPLACING, 9, 4)
        exchange.consumed(0)
        assert step() == (Mode.IDLE, 0, 0)
        exchange.plan(0, (60, 0, 0), 40, 9)
        upstream.sendall(client.recv(30, socket.MSG_PEEK))
        assert step() == (Mode.PLANNED, 30, 0)
        client.recv(30)
        exchange.plan(0, (60, 0, 0), 10, 39)
        assert step() == (Mode.PLANNED, 0, 0)
        upstream.sendall(client.recv(10))
        assert step() == (Mode.PLANNED, 10, 10)
        exchange.consumed(0)
        exchange.end()
        got = read(journal, client.fileno())
        assert got and got.direction == DirectionState()
