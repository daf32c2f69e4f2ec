"""From what a predecessor left to live sockets: copied out of its keeper, named in this process's own journal.

Copying changes nothing in the keeper, so a relay that dies of it or in it leaves all to the next one. The switch is
one replacement of the record, after which the old keeper is killed (kmesh.relay.record has the steps).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kmesh.relay.counters import count_taken, count_written
from kmesh.relay.journal import (
    DirectionState,
    Journal,
    JournalUnreadable,
    Kind,
    Mode,
    Slot,
    SlotView,
    Step,
    cookie_of,
    read_slots,
)
from kmesh.relay.keeper import Kept, open_kept
from kmesh.relay.record import JournalId, RelayRecord, find_keeper, write_record

__all__ = ["Adopted", "AdoptedSocket", "adopt", "measure_step", "settle"]

_SO_DOMAIN, _SO_PROTOCOL, _SO_NETNS_COOKIE = 39, 38, 71


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedSocket:
    """A socket of the predecessor's, non-blocking, and its slot in the new journal, which repeats the old one."""

    sock: socket.socket
    slot: Slot
    was: SlotView
    """As the predecessor wrote it, with its own descriptor numbers."""
    pipe: int | None = None
    """SPLICING: a descriptor of the pipe's end to read from, which is the new slot's too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """All that a predecessor left; empty lists when there was none."""

    acceptors: list[AdoptedSocket] = field(default_factory=list)
    clients: list[AdoptedSocket] = field(default_factory=list)
    pooled: list[AdoptedSocket] = field(default_factory=list)
    bound: list[AdoptedSocket] = field(default_factory=list)
    relayed: list[AdoptedSocket] = field(default_factory=list)
    accepted: list[socket.socket] = field(default_factory=list)
    """Taken from an acceptor and not named in the journal yet: to be treated as if accepted now."""

    def named(self) -> Iterator[AdoptedSocket]:
        """Every one that has a slot."""
        for kind in (self.acceptors, self.clients, self.pooled, self.bound, self.relayed):
            yield from kind

    def by_cookie(self) -> dict[int, AdoptedSocket]:
        """To find the other end of a direction: DirectionState.sink."""
        return {found.was.identity.cookie: found for found in self.named()}


def adopt(record: RelayRecord, journal: Journal) -> Adopted:
    """Copy what the record's journal names, and write it into this process's. Raises: JournalUnreadable."""
    kept = open_kept(record.journal) if record.journal else None
    if kept is None or record.journal is None:
        return Adopted()
    with contextlib.closing(kept):
        return _copy_all(kept, record.journal, journal)


def settle(runtime_dir: Path, record: RelayRecord, own: JournalId) -> RelayRecord:
    """From now on the next relay adopts from this one; the keepers of all earlier ones are killed."""
    old = tuple(each for each in (record.journal, *record.others) if each and each.inode != own.inode)
    record = replace(record, journal=own, others=old)
    write_record(runtime_dir, record)
    for each in old:
        keeper = find_keeper(each)
        if keeper:
            keeper.kill()
    record = replace(record, others=())
    write_record(runtime_dir, record)
    return record


def measure_step(source: socket.socket, sink: socket.socket, now: DirectionState, *, sink_is_upstream: bool) -> Step:
    """What was done of the step that the predecessor had begun. Raises: OSError."""
    sent = count_written(sink, is_opener=sink_is_upstream) - now.written
    return Step(sent=sent, took=count_taken(source) - now.taken)


def _copy_all(kept: Kept, old: JournalId, journal: Journal) -> Adopted:
    adopted = Adopted()
    lists = {
        Kind.ACCEPTOR: adopted.acceptors,
        Kind.CLIENT: adopted.clients,
        Kind.POOLED: adopted.pooled,
        Kind.BOUND: adopted.bound,
        Kind.RELAYED: adopted.relayed,
    }
    open_now = kept.descriptors()
    unnamed = set(open_now)
    memfd = kept.copy(old.descriptor)
    if memfd is None:
        raise JournalUnreadable("the keeper has no journal")
    try:
        for was in read_slots(memfd, open_now):
            sock = _copy_socket(kept, was.descriptor)
            if sock is None or cookie_of(sock) != was.identity.cookie:
                continue  # the number is another's now, which was not named yet
            unnamed.discard(was.descriptor)
            if was.identity.kind in lists:
                lists[was.identity.kind].append(_name(kept, journal, sock, was))
    finally:
        os.close(memfd)
    adopted.accepted.extend(_find_accepted(kept, unnamed, adopted.acceptors))
    return adopted


def _copy_socket(kept: Kept, descriptor: int) -> socket.socket | None:
    """None unless it is a TCP socket. One that is not kept is closed as a copy, and goes with the old keeper."""
    copied = kept.copy(descriptor)
    if copied is None:
        return None
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=copied)
    except OSError:
        os.close(copied)
        return None
    try:
        is_tcp = sock.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) == socket.IPPROTO_TCP
        family = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
    except OSError:  # no socket
        is_tcp = False
    if not is_tcp:
        sock.close()
        return None
    if family != socket.AF_INET:
        sock = socket.socket(family, socket.SOCK_STREAM, fileno=sock.detach())
    sock.setblocking(False)
    return sock


def _name(kept: Kept, journal: Journal, sock: socket.socket, was: SlotView) -> AdoptedSocket:
    pipe = kept.copy(was.direction.pipe) if was.direction.mode is Mode.SPLICING else None
    slot = journal.slot(sock.fileno())
    slot.open(was.identity, replace(was.direction, pipe=pipe or 0))
    return AdoptedSocket(sock=sock, slot=slot, was=was, pipe=pipe)


def _find_accepted(kept: Kept, unnamed: set[int], acceptors: list[AdoptedSocket]) -> Iterator[socket.socket]:
    """Of the sockets that no slot names, those that came from an acceptor; upstream connections are not needed."""
    ours = {_place(acceptor.sock) for acceptor in acceptors}
    for descriptor in sorted(unnamed):
        sock = _copy_socket(kept, descriptor) if kept.is_socket(descriptor) else None
        if sock is None:
            continue
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and _place(sock) in ours:
            yield sock
        else:
            sock.close()


def _place(sock: socket.socket) -> tuple[bytes, object]:
    """Network namespace and own address."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sock.getsockname()[:2]
