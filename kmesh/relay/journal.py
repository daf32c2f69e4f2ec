"""What each descriptor is, and how far an exchange has come: a memfd with one slot per descriptor number.

The successor of a process that died reads it (kmesh.relay.adoption). No store is ever half done to a reader: of a
slot's identity `kind` is written last, and of a direction there are two copies, of which the lowest bit of `sequence`
names the one that counts; it changes when the other one is complete. Both are single aligned words.

    kind       set by                     means
    FREE       -                          nothing; the next identity is being written
    CLOSED     close, before the socket   its socket, if it is still there, is to be closed
    others     open, become               what the socket of that cookie is

An exchange has two directions, each in the slot of its source: the request in the client's, the answer in the
upstream connection's. `ExchangeSlot` is both, as a pump asks for it.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from kmesh.records.layout import Field, Record
from kmesh.relay.counters import count_taken, count_written

__all__ = [
    "NOWHERE",
    "SLOTS",
    "Address",
    "DirectionState",
    "ExchangeSlot",
    "Identity",
    "Journal",
    "JournalUnreadable",
    "Kind",
    "Mode",
    "Rest",
    "Slot",
    "SlotView",
    "Step",
    "cookie_of",
    "read_slots",
]

SLOTS = 65_536
SLOT_BYTES = 256
_SO_COOKIE = 57
_HEADER = struct.Struct("<8sQ")  # in slot 0: descriptor 0 is never a socket's here
_MAGIC = b"kmeshjr1"

Address = tuple[bytes, int]
"""16 bytes in network order, IPv4 v4-mapped, and the port in host order."""
NOWHERE: Address = (bytes(16), 0)


class Kind(IntEnum):
    FREE = 0
    CLOSED = 1
    ACCEPTOR = 2
    CLIENT = 3
    POOLED = 4
    BOUND = 5
    RELAYED = 6
    """An upstream connection of an exchange that the relay carries."""


class Mode(IntEnum):
    """What a direction is about to do."""

    IDLE = 0
    PLANNED = 1
    """`planned` bytes go from source to sink as they are."""
    REPLACING = 2
    """The source's first `length` bytes go to the sink as other `planned` bytes: a head that is written anew."""
    SPLICING = 3
    """`planned` bytes go through the pipe whose end to read from is descriptor `pipe`."""


IDENTITY = Record(
    "km_journal_identity",
    "What a descriptor is.",
    (
        Field("kind", "u64"),
        Field("cookie", "u64", doc="of the socket"),
        Field("netns", "u64", doc="cookie of its network namespace"),
        Field("client", "u64", doc="cookie of the client's own socket: CLIENT, BOUND, RELAYED"),
        Field("cluster", "u64", doc="POOLED, BOUND, RELAYED"),
        Field("routing", "u64", doc="CLIENT"),
        Field("addr16", "u8", 16, doc="CLIENT: what connect() named"),
        Field("port", "u16", doc="host order"),
        Field("pad", "u8", 6),
        Field("sequence", "u64", doc="of the direction"),
        Field("backend", "u64", doc="upstream: id of its endpoint"),
        Field("pad2", "u8", 24),
    ),
)
DIRECTION = Record(
    "km_journal_direction",
    "How far the bytes from this socket have come.",
    (
        Field("sink", "u64", doc="cookie of the socket they go to; 0: no exchange"),
        Field("taken", "u64", doc="from the source when the step began, as kmesh.relay.counters says"),
        Field("written", "u64", doc="to the sink when the step began, likewise"),
        Field("state0", "u64", doc="of the framer, behind the step"),
        Field("state1", "u64"),
        Field("state2", "u64"),
        Field("planned", "u64"),
        Field("length", "u32", doc="REPLACING: bytes of the source's head"),
        Field("pipe", "u32"),
        Field("mode", "u16"),
        Field("framer", "u16", doc="kind of framer, as who writes it numbers them"),
        Field("phase", "u32", doc="of the exchange, likewise"),
    ),
)
assert IDENTITY.size + 2 * DIRECTION.size == SLOT_BYTES
_SEQUENCE_AT = IDENTITY.offset("sequence")
_CLIENT_AT = IDENTITY.offset("client")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    kind: Kind
    cookie: int
    netns: int = 0
    client: int = 0
    cluster: int = 0
    routing: int = 0
    address: Address = NOWHERE
    """Of a client: what it asked for."""
    backend: int = 0
    """Of an upstream connection: the id of its endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionState:
    """Fields as in DIRECTION."""

    sink: int = 0
    taken: int = 0
    written: int = 0
    state: tuple[int, int, int] = (0, 0, 0)
    planned: int = 0
    length: int = 0
    pipe: int = 0
    mode: Mode = Mode.IDLE
    framer: int = 0
    phase: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Where a direction stands when an exchange is begun that a predecessor, or the kernel, had begun."""

    state: tuple[int, int, int]
    """Of the framer, behind `planned`."""
    planned: int = 0
    """Bytes that go next as they are."""
    pipe: int = 0
    """Not 0: they go through the pipe whose end to read from this is, ..."""
    piped: int = 0
    """... where so many of them lie."""

    @property
    def mode(self) -> Mode:
        if self.pipe:
            return Mode.SPLICING
        return Mode.PLANNED if self.planned else Mode.IDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """A slot as it was read."""

    descriptor: int
    identity: Identity
    direction: DirectionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How much of the step that was begun is done, by the sockets' own counts."""

    sent: int
    """Of the `planned` bytes, to the sink."""
    took: int
    """From the source: of `planned`, or of `length` when replacing."""


class JournalUnreadable(Exception):
    """It was written by a kmesh whose slots are others."""


def cookie_of(sock: socket.socket) -> int:
    """The kernel's number of a socket, never used twice."""
    return int(_U64.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0])


class Journal:
    """The journal that this process writes. Not for several threads."""

    def __init__(self) -> None:
        """Raises: OSError."""
        self.descriptor = os.memfd_create("kmesh-journal", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, SLOTS * SLOT_BYTES)
        self.memory = mmap.mmap(self.descriptor, SLOTS * SLOT_BYTES)
        _HEADER.pack_into(self.memory, 0, _MAGIC, SLOTS)

    @property
    def inode(self) -> int:
        return os.fstat(self.descriptor).st_ino

    def slot(self, descriptor: int) -> Slot:
        """Raises: OverflowError, when the journal has no slot for a number that high."""
        if not 0 < descriptor < SLOTS:
            raise OverflowError(f"descriptor {descriptor} has no slot in the journal")
        return Slot(self.memory, descriptor)


class Slot:
    """One descriptor's."""

    def __init__(self, memory: mmap.mmap, descriptor: int) -> None:
        self._memory, self._at = memory, descriptor * SLOT_BYTES
        self.descriptor = descriptor
        self._now = DirectionState()

    def open(self, identity: Identity, direction: DirectionState | None = None) -> None:
        """Say what the descriptor is. Call it before anything is done with it."""
        self._put(0, Kind.FREE)
        who = identity
        row = (who.netns, who.client, who.cluster, who.routing, *who.address)
        IDENTITY.struct.pack_into(self._memory, self._at, 0, who.cookie, *row, bytes(6), 0, who.backend, bytes(24))
        self.write(direction or DirectionState())
        self._put(0, identity.kind)

    def become(self, kind: Kind, *, client: int | None = None) -> None:
        """The same socket in another part; `client` is whose it is from now on, None as before."""
        if client is not None:
            self._put(_CLIENT_AT, client)
        self._put(0, kind)

    def close(self) -> None:
        """Its socket is about to be closed: call it before that is."""
        self._put(0, Kind.CLOSED)

    @property
    def direction(self) -> DirectionState:
        return self._now

    def write(self, now: DirectionState) -> None:
        """Replace the direction whole."""
        (sequence,) = _U64.unpack_from(self._memory, self._at + _SEQUENCE_AT)
        copy = self._at + IDENTITY.size + DIRECTION.size * ((sequence + 1) & 1)
        head = (now.sink, now.taken, now.written, *now.state)
        tail = (now.planned, now.length, now.pipe, now.mode, now.framer, now.phase)
        DIRECTION.struct.pack_into(self._memory, copy, *head, *tail)
        self._put(_SEQUENCE_AT, sequence + 1)
        self._now = now

    def _put(self, at: int, value: int) -> None:
        self._memory[self._at + at : self._at + at + 8] = _U64.pack(value)  # copied as one word; pack_into is not


class ExchangeSlot:
    """Both directions of one exchange: the `Slot` that kmesh.relay.pump writes to.

    A pump counts what it gave to a sink since its channel was made; the kernel counts from the connection's start.
    The difference is read once, when the exchange begins.
    """

    def __init__(self, client: Slot, upstream: Slot, *, phase: int = 0) -> None:
        self._slots = (client, upstream)
        self._offsets = [0, 0]
        self._phase = phase

    def begin(
        self,
        client: socket.socket,
        upstream: socket.socket,
        given: tuple[int, int],
        rests: Mapping[int, Rest] | None = None,
    ) -> None:
        """`given`: the channels' counts of upstream and client, the sinks of both directions. Raises: OSError.

        `rests` by direction, where one stands elsewhere than before its head: what was written of it is replaced
        in one step.
        """
        sinks, sources = (upstream, client), (client, upstream)
        for direction, (source, sink) in enumerate(zip(sources, sinks, strict=True)):
            written = count_written(sink, is_opener=sink is upstream)
            self._offsets[direction] = written - given[direction]
            rest = (rests or {}).get(direction, _NONE)
            now = DirectionState(
                sink=cookie_of(sink),
                taken=count_taken(source) - rest.piped,
                written=written,
                state=rest.state,
                planned=rest.planned,
                pipe=rest.pipe,
                mode=rest.mode,
                phase=self._phase,
            )
            self._slots[direction].write(now)

    def note_framer(self, direction: int, kind: int) -> None:
        """Which framer the states of `plan` belong to."""
        self._change(direction, framer=kind)

    def note_state(self, direction: int, state: tuple[int, int, int]) -> None:
        """Where the framer of a direction stands that has no step yet."""
        self._change(direction, state=state)

    def plan(self, direction: int, state: tuple[int, int, int], planned: int, base: int) -> None:
        self._advance(direction, base, mode=Mode.PLANNED, state=state, planned=planned)

    def replacing(
        self, direction: int, length: int, planned: int, base: int, state: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        self._advance(direction, base, mode=Mode.REPLACING, planned=planned, length=length, state=state)

    def splicing(self, direction: int, left: int, base: int, pipe: int) -> None:
        self._advance(direction, base, mode=Mode.SPLICING, state=(left, 0, 0), planned=left, pipe=pipe)

    def consumed(self, direction: int) -> None:
        now = self._slots[direction].direction
        took = now.length if now.mode is Mode.REPLACING else now.planned
        self._change(
            direction, mode=Mode.IDLE, taken=now.taken + took, written=now.written + now.planned, planned=0, length=0
        )

    def end(self) -> None:
        """Nothing is under way."""
        for slot in self._slots:
            slot.write(DirectionState())

    def _advance(self, direction: int, base: int, **changes: object) -> None:
        """A new step; of one of PLANNED or SPLICING that went only in part, what was sent was taken too."""
        now, written = self._slots[direction].direction, base + self._offsets[direction]
        went = written - now.written if now.mode in (Mode.PLANNED, Mode.SPLICING) else 0
        self._change(direction, taken=now.taken + went, written=written, **changes)

    def _change(self, direction: int, **changes: object) -> None:
        self._slots[direction].write(_replaced(self._slots[direction].direction, changes))


_NONE = Rest(state=(0, 0, 0))


def _replaced(now: DirectionState, changes: dict[str, object]) -> DirectionState:
    values = {name: getattr(now, name) for name in DirectionState.__slots__}
    return DirectionState(**{**values, **changes})


def read_slots(memfd: int, descriptors: Iterable[int]) -> Iterator[SlotView]:
    """Those of a journal that nobody writes any more which are in use. Raises: JournalUnreadable."""
    if os.pread(memfd, _HEADER.size, 0) != _HEADER.pack(_MAGIC, SLOTS):
        raise JournalUnreadable("the journal is of another version")
    for descriptor in descriptors:
        raw = os.pread(memfd, SLOT_BYTES, descriptor * SLOT_BYTES)
        if 0 < descriptor < SLOTS and any(raw[:8]):
            yield _read_slot(descriptor, raw)


def _read_slot(descriptor: int, raw: bytes) -> SlotView:
    row = IDENTITY.struct.unpack_from(raw)
    kind, cookie, netns, client, cluster, routing, addr16, port, _, sequence, backend, _ = row
    row = DIRECTION.struct.unpack_from(raw, IDENTITY.size + DIRECTION.size * (sequence & 1))
    sink, taken, written, state0, state1, state2, planned, length, pipe, mode, framer, phase = row
    return SlotView(
        descriptor=descriptor,
        identity=Identity(
            kind=Kind(kind),
            cookie=cookie,
            netns=netns,
            client=client,
            cluster=cluster,
            routing=routing,
            address=(addr16, port),
            backend=backend,
        ),
        direction=DirectionState(
            sink=sink,
            taken=taken,
            written=written,
            state=(state0, state1, state2),
            planned=planned,
            length=length,
            pipe=pipe,
            mode=Mode(mode),
            framer=framer,
            phase=phase,
        ),
    )
