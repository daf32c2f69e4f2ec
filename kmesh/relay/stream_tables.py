"""The maps of streams, typed: what programs and relay tell each other (docs/decisions/0009-streams.md).

Who writes what:

    map           key                    programs                     relay
    km_acceptor   namespace              read                         writes
    km_peer       acceptor's view        write                        reads, deletes
    km_stream     client                 write                        reads, deletes, marks relayed
    km_grant      client                 read                         writes, deletes
    km_bound      client, cluster        write                        reads, deletes
    km_pool       namespace, cluster     take from the queue          fills it
    km_upstream   upstream connection    write                        reads, deletes
    km_upstreams  upstream connection    redirect to its socket       adds sockets, which leave when they are closed
    km_unfit      upstream connection    write                        reads
    km_untold     -                      count                        reads

Cookies are the kernel's names of sockets and of namespaces; they are never used again. Methods raise OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kmesh.kernel import bpf
from kmesh.kernel.sockets import possible_cpus
from kmesh.kernel.stream_maps import create_pool_queue
from kmesh.model.address import SocketAddress
from kmesh.records.constants import AnswerState, Delivery
from kmesh.records.layout import ACCEPTOR, BOUND_KEY, EXCHANGE, GRANT, PEER, PEER_KEY, POOL_KEY, STREAM

__all__ = ["Peer", "Stream", "StreamTables", "UpstreamState"]

_MAPS = (
    *("acceptor", "peer", "stream", "grant", "bound", "pool", "events", "untold"),
    *("clients", "upstreams", "upstream", "unfit"),
)
_U64 = struct.Struct("<Q")
_FD = struct.Struct("<I")
_FIRST = bytes(4)
"""The key of an array's first element."""
_COOKIE_AT = 14
"""In the packet that km_delivered is run with."""
_IS_RELAYED = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom an accepted connection is from."""

    client: int
    routing: int
    asked: SocketAddress
    """What its connect() named."""


@dataclass(frozen=True, slots=True)
class Stream:
    """As STREAM says."""

    sent: int
    received: int
    upstream: int
    exchanges: int
    requests: int
    handovers: int
    handover: int
    is_relayed: int
    bound: int
    cluster: int
    expected: int
    is_torn: int


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """As EXCHANGE says."""

    client: int
    cluster: int
    netns: int
    answers: int
    remaining: int
    carried: int
    bytes: int
    state: int
    """AnswerState."""
    phase: int
    """BodyPhase."""
    is_head: int
    is_partial: int
    is_closing: int
    is_ending: int
    told: int
    """StreamEvent."""
    pad: int

    @property
    def is_in_flight(self) -> bool:
        """An answer is awaited or under way in the kernel."""
        return self.state in (AnswerState.HEAD, AnswerState.BODY, AnswerState.CHUNKS)


class StreamTables:
    """Opens the pinned maps of `maps_dir`."""

    def __init__(self, maps_dir: Path) -> None:
        with contextlib.ExitStack() as stack:
            self._fds = {name: bpf.get_object(maps_dir / f"km_{name}") for name in (*_MAPS, "delivered")}
            for fd in self._fds.values():
                stack.callback(os.close, fd)
            self._upstream_bytes = bpf.map_info(self._fds["upstream"]).value_size
            self._stack = stack.pop_all()
        self._granted: set[int] = set()
        """Clients that have a grant of this process's."""
        self.events = self._fds["events"]
        """Descriptor of the ring buffer."""
        self._counts = struct.Struct(f"<{possible_cpus()}Q")

    def close(self) -> None:
        self._stack.close()

    def count_untold(self) -> int:
        """Events that found no room, since the maps were made."""
        raw = bpf.lookup(self._fds["untold"], _FIRST, self._counts.size)
        return sum(self._counts.unpack(raw)) if raw else 0

    # Acceptors and peers

    def set_acceptor(self, netns: int, port4: int, port6: int) -> None:
        """Ports in host order; 0 for none."""
        bpf.update(self._fds["acceptor"], _U64.pack(netns), ACCEPTOR.pack(socket.htons(port4), socket.htons(port6)))

    def delete_acceptor(self, netns: int) -> None:
        bpf.delete(self._fds["acceptor"], _U64.pack(netns))

    def acceptors(self) -> list[int]:
        """Cookies of the namespaces that have one, or have asked for one."""
        return _numbers(self._fds["acceptor"])

    def find_peer(self, netns: int, addr16: bytes, port: int) -> tuple[bytes, Peer | None]:
        """(key, who) of the connection from this address; None when no program sent it there."""
        key = PEER_KEY.struct.pack(netns, addr16, socket.htons(port), bytes(6))
        raw = bpf.lookup(self._fds["peer"], key, PEER.size)
        if raw is None:
            return key, None
        client, routing, asked, port_be, _ = PEER.struct.unpack(raw)
        return key, Peer(client, routing, SocketAddress(asked, socket.ntohs(port_be)))

    def peers(self) -> Iterator[tuple[bytes, int]]:
        """(key, client) of each."""
        for key, value in bpf.lookup_all(self._fds["peer"], PEER_KEY.size, PEER.size):
            yield key, _U64.unpack_from(value)[0]

    def delete_peer(self, key: bytes) -> None:
        bpf.delete(self._fds["peer"], key)

    # Clients

    def delivery(self, client: int) -> Delivery:
        """Of what programs gave it: see km_delivered.c."""
        return Delivery(bpf.run_program(self._fds["delivered"], bytes(_COOKIE_AT) + _U64.pack(client)))

    def has_client(self, client: int) -> bool:
        """Whether its socket is still among the clients: it leaves when it is closed."""
        return bpf.lookup(self._fds["clients"], _U64.pack(client), 8) is not None

    def read_stream(self, client: int) -> Stream | None:
        raw = bpf.lookup(self._fds["stream"], _U64.pack(client), STREAM.size)
        return Stream(*STREAM.struct.unpack(raw)) if raw else None

    def claim_stream(self, client: int) -> bool:
        """Programs carry nothing of a client without a stream: delete it, unless they have begun a request."""
        stream = self.read_stream(client)
        if stream is None or stream.requests:
            return False
        bpf.delete(self._fds["stream"], _U64.pack(client))
        return True

    def streams(self) -> list[int]:
        return _numbers(self._fds["stream"])

    def grants(self) -> list[int]:
        return _numbers(self._fds["grant"])

    def grant(self, client: int, sent: int, received: int, ended: int) -> None:
        self._granted.add(client)
        bpf.update(self._fds["grant"], _U64.pack(client), GRANT.struct.pack(sent, received, ended))

    def read_ended(self, client: int) -> int:
        """What its grant, of a predecessor's, says of the kernel's exchange that ended last; 0: it has none."""
        raw = bpf.lookup(self._fds["grant"], _U64.pack(client), GRANT.size)
        if raw is None:
            return 0
        self._granted.add(client)
        return int(GRANT.struct.unpack(raw)[2])

    def take_stream(self, client: int) -> Stream | None:
        """Read it a last time: it is deleted, and so is the client's grant. None: a program did so before, and told
        CLIENT_CLOSED, which is not told now."""
        raw = bpf.pop(self._fds["stream"], STREAM.size, _U64.pack(client))
        if client in self._granted:
            self._granted.discard(client)
            bpf.delete(self._fds["grant"], _U64.pack(client))
        return Stream(*STREAM.struct.unpack(raw)) if raw else None

    def delete_client(self, client: int) -> None:
        """Its stream and its grant, whoever wrote that."""
        bpf.delete(self._fds["stream"], _U64.pack(client))
        bpf.delete(self._fds["grant"], _U64.pack(client))

    # Bound connections

    def read_bound(self, client: int, cluster: int) -> int:
        """Cookie of the upstream connection; 0 for none."""
        raw = bpf.lookup(self._fds["bound"], BOUND_KEY.struct.pack(client, cluster), 8)
        return int(_U64.unpack(raw)[0]) if raw else 0

    def unbind(self, client: int, cluster: int, upstream: int, *, is_last: bool = False) -> None:
        """Unless another one is bound there by now. `is_last`: the client is gone, so there is none."""
        if is_last or self.read_bound(client, cluster) == upstream:
            bpf.delete(self._fds["bound"], BOUND_KEY.struct.pack(client, cluster))

    def bound(self) -> Iterator[tuple[int, int, int]]:
        """(client, cluster, upstream) of each."""
        for key, value in bpf.lookup_all(self._fds["bound"], BOUND_KEY.size, 8):
            client, cluster = BOUND_KEY.struct.unpack(key)
            yield client, cluster, _U64.unpack(value)[0]

    # Pools

    def open_pool(self, netns: int, cluster: int) -> int:
        """A descriptor of the pool's queue, which is made when there is none."""
        key = POOL_KEY.struct.pack(netns, cluster)
        for _ in range(8):
            held = bpf.lookup(self._fds["pool"], key, 4)
            if held is None:
                queue = create_pool_queue()
                bpf.update(self._fds["pool"], key, _FD.pack(queue))
                return queue
            with contextlib.suppress(FileNotFoundError):
                return bpf.map_fd_by_id(_FD.unpack(held)[0])
        raise OSError(errno.EAGAIN, "a pool's queue that is replaced all the time")

    def fence(self, netns: int, cluster: int, queue: int) -> None:
        """Wait until every program run that began before this call has ended. Blocks for milliseconds.

        Setting an element of a map of maps does (maybe_wait_bpf_programs in linux kernel/bpf/syscall.c).
        """
        bpf.update(self._fds["pool"], POOL_KEY.struct.pack(netns, cluster), _FD.pack(queue))

    def delete_pool(self, netns: int, cluster: int) -> None:
        bpf.delete(self._fds["pool"], POOL_KEY.struct.pack(netns, cluster))

    def pools(self) -> list[tuple[int, int]]:
        """(namespace, cluster) of each."""
        return [POOL_KEY.struct.unpack(key) for key in bpf.keys(self._fds["pool"], POOL_KEY.size)]

    # Upstream connections

    def add_upstream(self, upstream: int, sock: socket.socket) -> None:
        """From now on its bytes are the programs'."""
        bpf.update(self._fds["upstreams"], _U64.pack(upstream), _U64.pack(sock.fileno()))

    def has_upstream(self, upstream: int) -> bool:
        """Whether its socket is open."""
        return bpf.lookup(self._fds["upstreams"], _U64.pack(upstream), 8) is not None

    def read_upstream(self, upstream: int) -> UpstreamState | None:
        """None when it was never taken, and has not ended."""
        raw = bpf.lookup(self._fds["upstream"], _U64.pack(upstream), self._upstream_bytes)
        return UpstreamState(*EXCHANGE.struct.unpack_from(raw)) if raw else None

    def mark_dead(self, upstream: int) -> bool:
        """Have it passed over while it is in a queue. False: a program has taken it, and it is left as it is."""
        value = EXCHANGE.pack(0, 0, 0, 0, 0, 0, 0, AnswerState.DEAD, *bytes(6)).ljust(self._upstream_bytes, b"\0")
        return bpf.insert(self._fds["upstream"], _U64.pack(upstream), value)

    def is_breached(self, upstream: int) -> bool:
        """Bytes came on it that no request asked for."""
        raw = bpf.lookup(self._fds["unfit"], _U64.pack(upstream), 8)
        return raw is not None and _U64.unpack(raw)[0] == AnswerState.RELAYED

    def delete_upstream(self, upstream: int) -> bool:
        """Its state; by that it is passed over when it is still in a queue. Returns whether there was one."""
        return bpf.delete(self._fds["upstream"], _U64.pack(upstream))

    def upstreams(self) -> list[int]:
        return _numbers(self._fds["upstream"])


def _numbers(fd: int) -> list[int]:
    return [_U64.unpack(key)[0] for key in bpf.keys(fd, 8)]
