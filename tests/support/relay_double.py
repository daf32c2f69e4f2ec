"""A stand-in for the relay process, for tests of the kernel half of streams: just enough to be its other end.

It accepts, keeps pools of upstream connections, carries what programs leave to it, and grants. It speaks HTTP/1.1
with bodies by Content-Length, chunks or the end of the connection, and has no limits: it is no relay to use.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import getrandbits

from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.reference import Tables
from kmesh.kernel import bpf
from kmesh.kernel.stream_maps import create_pool_queue
from kmesh.records.constants import LIMITS, AnswerState, Handover, StreamEvent
from kmesh.records.layout import ACCEPTOR, BOUND_KEY, EVENT, GRANT, PEER, PEER_KEY, POOL_KEY, STREAM
from kmesh.kernel.ring_buffer import RingBuffer

__all__ = ["RelayDouble"]

_SO_COOKIE, _SO_NETNS_COOKIE = 57, 71
_MAPS = ("acceptor", "peer", "stream", "grant", "bound", "pool", "events", "upstreams", "upstream")
_U64 = struct.Struct("<Q")
_UPSTREAM = struct.Struct("<5QII")
"""The start of struct km_upstream: client, cluster, remaining, answers, netns, state, is_head."""
_RELAYED_LINES = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|connection):[^\r]*", re.I)
_SETTLE_S = 0.005
_CHUNK = 1 << 20


def _cookie(sock: socket.socket, option: int = _SO_COOKIE) -> int:
    return int(_U64.unpack(sock.getsockopt(socket.SOL_SOCKET, option, 8))[0])


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*?)[ \t]*\r", head, re.I)
    return found[1].lower() if found else b""


def _has_spoken(sock: socket.socket) -> bool:
    """Before the programs saw what it says: bytes that no one asked for, or the end."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def _ends_connection(head: bytes) -> bool:
    asked = _header(head, b"connection")
    return asked == b"close" or (b" HTTP/1.0\r\n" in head and asked != b"keep-alive")


class _Client:
    def __init__(self, sock: socket.socket, peer: Mapping[str, int | bytes]) -> None:
        self.sock, self.cookie, self.routing = sock, int(peer["client"]), int(peer["routing"])
        self.port = socket.ntohs(int(peer["port_be"]))
        self.taken = self.given = 0
        """Bytes from and to the client."""
        self.buffer = b""
        self.upstreams: dict[int, _Upstream] = {}
        self.has_ended = False
        self.idle = asyncio.Event()
        self.answers: asyncio.Queue[None] = asyncio.Queue()


class _Upstream:
    def __init__(self, sock: socket.socket, cluster: int) -> None:
        self.sock, self.cluster, self.cookie = sock, cluster, _cookie(sock)
        self.client: _Client | None = None
        self.owner = 0
        """Cookie of the client that it is bound to, who may not be accepted yet."""


class RelayDouble:
    """Async context manager. `endpoints`: address of each cluster, by id. `counts`: what it did."""

    def __init__(
        self, maps_dir: Path, tables: Tables, endpoints: Mapping[int, tuple[str, int]], *, pool_size: int = 4
    ) -> None:
        self._fds = {name: bpf.get_object(maps_dir / f"km_{name}") for name in _MAPS}
        self._upstream_size = bpf.map_info(self._fds["upstream"]).value_size
        self._tables, self._endpoints, self._pool_size = tables, endpoints, pool_size
        self.counts: Counter[str] = Counter()
        self.sends_on = True
        """What programs leave to it; else it answers requests with 503, and resets clients of whom it has answers."""
        self._books = threading.Lock()
        """Held while a client moves from the live ones to those that are counted; tests count from another thread."""
        self._clients: dict[int, _Client] = {}
        self._upstreams: dict[int, _Upstream] = {}
        self._pooled: Counter[int] = Counter()
        self._queues: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> RelayDouble:
        self._loop = asyncio.get_running_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._netns = _cookie(self._listener, _SO_NETNS_COOKIE)
        port = socket.htons(self._listener.getsockname()[1])
        bpf.update(self._fds["acceptor"], _U64.pack(self._netns), ACCEPTOR.pack(port, 0))
        self._ring = RingBuffer(self._fds["events"], LIMITS["EVENT_BYTES"])
        self._ended = select.epoll()
        self._loop.add_reader(self._fds["events"], self._take_events)
        self._loop.add_reader(self._ended.fileno(), self._take_ended)
        self._start(self._accept())
        for cluster in self._endpoints:
            await self._fill(cluster)
        return self

    async def __aexit__(self, *_: object) -> None:
        bpf.delete(self._fds["acceptor"], _U64.pack(self._netns))
        for task in self._tasks:
            task.cancel()
        self._loop.remove_reader(self._fds["events"])
        self._loop.remove_reader(self._ended.fileno())
        for upstream in list(self._upstreams.values()):
            self._drop(upstream)
        for client in list(self._clients.values()):
            self._forget(client)
        self._listener.close()

    def stream(self, client: int) -> dict[str, int | bytes]:
        value = bpf.lookup(self._fds["stream"], _U64.pack(client), STREAM.size)
        return STREAM.unpack(value or bytes(STREAM.size))

    @property
    def exchanges(self) -> int:
        """That the kernel carried to their ends."""
        with self._books:
            live = sum(int(self.stream(client)["exchanges"]) for client in self._clients)
            return self.counts["kernel"] + live

    def _start(self, work) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Pools

    async def _fill(self, cluster: int) -> None:
        if cluster not in self._endpoints:
            return
        if cluster not in self._queues:
            self._queues[cluster] = create_pool_queue()
            key = POOL_KEY.pack(self._netns, cluster)
            bpf.update(self._fds["pool"], key, struct.pack("<I", self._queues[cluster]))
        while self._pooled[cluster] < self._pool_size:
            self._pooled[cluster] += 1
            try:
                sock = await self._dial(cluster)
            except OSError:
                self._pooled[cluster] -= 1
                return
            upstream = _Upstream(sock, cluster)
            self._upstreams[upstream.cookie] = upstream
            self._ended.register(sock, select.EPOLLRDHUP)
            bpf.update(self._fds["upstreams"], _U64.pack(upstream.cookie), _U64.pack(sock.fileno()))
            if _has_spoken(sock):
                self._drop(upstream, reset=True)
                continue
            bpf.push(self._queues[cluster], _U64.pack(upstream.cookie))
            self.counts["dialled"] += 1

    async def _dial(self, cluster: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await self._loop.sock_connect(sock, self._endpoints[cluster])
        return sock

    def _drop(self, upstream: _Upstream, *, reset: bool = False) -> None:
        if self._upstreams.pop(upstream.cookie, None) is None:
            return
        with contextlib.suppress(OSError):
            self._ended.unregister(upstream.sock)
        if reset:
            upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        upstream.sock.close()
        client = upstream.client
        if client:
            client.upstreams.pop(upstream.cookie, None)
        if upstream.owner:
            key = BOUND_KEY.pack(upstream.owner, upstream.cluster)
            if bpf.lookup(self._fds["bound"], key, 8) == _U64.pack(upstream.cookie):
                bpf.delete(self._fds["bound"], key)
            bpf.delete(self._fds["upstream"], _U64.pack(upstream.cookie))
        elif upstream.cluster in self._queues:
            self._pooled[upstream.cluster] -= 1  # its element stays: by that it is passed over in the queue
        if client and client.has_ended and not client.upstreams:
            self._forget(client)

    # Events

    def _take_events(self) -> None:
        for record in self._ring.take():
            event = EVENT.unpack(record)
            kind = StreamEvent(int(event["kind"]))
            self.counts[kind.name] += 1
            upstream = self._upstreams.get(int(event["upstream"]))
            client = self._clients.get(int(event["client"]))
            if kind is StreamEvent.TAKEN and upstream:
                upstream.owner = int(event["client"])
                self._pooled[upstream.cluster] -= 1
            if kind in (StreamEvent.TAKEN, StreamEvent.NEEDED):
                self._start(self._bind(kind, int(event["client"]), upstream, int(event["cluster"])))
            elif kind is StreamEvent.ENDED:
                if client:
                    client.idle.set()
            elif upstream:
                self._start(self._take_over(kind, int(event["client"]), upstream))

    async def _find_client(self, cookie: int) -> _Client | None:
        """It may not be accepted yet."""
        for _ in range(200):
            if cookie in self._clients:
                return self._clients[cookie]
            await asyncio.sleep(0.005)
        return None

    async def _bind(self, kind: StreamEvent, cookie: int, upstream: _Upstream | None, cluster: int) -> None:
        self._start(self._fill(cluster))
        if kind is StreamEvent.TAKEN and upstream:
            client = await self._find_client(cookie)
            if client is None:
                self._drop(upstream)
                return
            upstream.client = client
            client.upstreams[upstream.cookie] = upstream

    async def _take_over(self, kind: StreamEvent, cookie: int, upstream: _Upstream) -> None:
        client = await self._find_client(cookie) if cookie else None
        state = self._state(upstream)
        if kind is StreamEvent.ANSWER and client and not self.sends_on:
            self._drop(upstream, reset=True)
            self._reset(client)
        elif kind is StreamEvent.ANSWER and client and state:
            with contextlib.suppress(OSError, EOFError):
                await self._relay_answer(client, upstream, bool(state[6]))
            if client.has_ended:
                self._drop(upstream, reset=True)
        else:
            self._drop(upstream, reset=True)
            if kind is StreamEvent.BREACH and client and int(self.stream(cookie)["upstream"]) == upstream.cookie:
                self._reset(client)

    def _state(self, upstream: _Upstream) -> tuple[int, ...] | None:
        value = bpf.lookup(self._fds["upstream"], _U64.pack(upstream.cookie), self._upstream_size)
        return _UPSTREAM.unpack_from(value) if value else None

    def _take_ended(self) -> None:
        by_fd = {upstream.sock.fileno(): upstream for upstream in self._upstreams.values()}
        for fd, _ in self._ended.poll(0):
            upstream = by_fd.get(fd)
            self._ended.unregister(fd)
            if upstream:
                self._start(self._end(upstream))

    async def _end(self, upstream: _Upstream) -> None:
        """An upstream connection was closed by its server. Its last bytes may be on their way through a program."""
        await asyncio.sleep(_SETTLE_S)
        state = self._state(upstream)
        client = upstream.client
        if state and state[5] == AnswerState.RELAYED:
            return
        in_flight = state and client and state[5] in (AnswerState.HEAD, AnswerState.BODY)
        self._drop(upstream)
        if in_flight and client and state:
            if state[5] == AnswerState.HEAD:
                self.counts["lost"] += 1
                await self._answer(client, _reply(503), ended=upstream.cookie)
            else:
                self._reset(client)

    def _reset(self, client: _Client) -> None:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._forget(client)

    # Clients

    async def _accept(self) -> None:
        while True:
            sock, address = await self._loop.sock_accept(self._listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            addr16 = bytes(10) + b"\xff\xff" + socket.inet_aton(address[0])
            key = PEER_KEY.pack(self._netns, addr16, socket.htons(address[1]))
            peer = bpf.lookup(self._fds["peer"], key, PEER.size)
            if peer is None:
                sock.close()
                continue
            bpf.delete(self._fds["peer"], key)
            client = _Client(sock, PEER.unpack(peer))
            with self._books:
                self._clients[client.cookie] = client
            self.counts["accepted"] += 1
            self._start(self._serve(client))

    async def _serve(self, client: _Client) -> None:
        try:
            while await self._read_head(client):
                await self._exchange(client)
        except (OSError, EOFError):
            pass
        client.has_ended = True
        self._take_events()  # its last request may have taken a connection just now
        await asyncio.sleep(0)
        if not client.upstreams:
            self._forget(client)
        for upstream in list(client.upstreams.values()):
            with contextlib.suppress(OSError):
                upstream.sock.shutdown(socket.SHUT_WR)

    def _forget(self, client: _Client) -> None:
        with self._books:
            if self._clients.pop(client.cookie, None) is None:
                return
            self.counts["kernel"] += int(self.stream(client.cookie)["exchanges"])
        client.sock.close()
        for upstream in list(client.upstreams.values()):
            self._drop(upstream)
        for name in ("stream", "grant"):
            bpf.delete(self._fds[name], _U64.pack(client.cookie))

    async def _receive(self, client: _Client) -> bool:
        received = await self._loop.sock_recv(client.sock, _CHUNK)
        client.taken += len(received)
        client.buffer += received
        return bool(received)

    async def _read_head(self, client: _Client) -> bool:
        while b"\r\n\r\n" not in client.buffer:
            if not await self._receive(client):
                return False
        return True

    async def _exchange(self, client: _Client) -> None:
        self.counts["relayed"] += 1
        end = client.buffer.index(b"\r\n\r\n") + 4
        head, client.buffer = client.buffer[:end], client.buffer[end:]
        while int(self.stream(client.cookie)["upstream"]):  # its answer comes first
            client.idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.idle.wait(), 0.05)
        plain = _RELAYED_LINES.sub(b"", head).replace(b" HTTP/1.0\r\n", b" HTTP/1.1\r\n", 1)
        routed = match_request(
            self._tables, client.routing, plain, port=client.port, draw=lambda: getrandbits(32), cursors={}
        )
        if routed.handover in (Handover.NO_ROUTE, Handover.NO_VIRTUAL_HOST):
            await self._answer(client, _reply(404))
        elif routed.handover is not Handover.NONE:
            await self._answer(client, _reply(400))
            raise EOFError
        elif routed.cluster not in self._endpoints or not self.sends_on:
            await self._answer(client, _reply(503))
        else:
            await self._proxy(client, routed.cluster, head)
            if _ends_connection(head):
                raise EOFError

    async def _proxy(self, client: _Client, cluster: int, head: bytes) -> None:
        try:
            sock = await self._dial(cluster)
        except OSError:
            await self._answer(client, _reply(503))
            return
        upstream = _Upstream(sock, cluster)
        with contextlib.closing(sock):
            await self._loop.sock_sendall(sock, head)
            body = self._start(self._send_body(client, sock, head))
            await self._relay_answer(client, upstream, head.startswith(b"HEAD "), body)

    async def _send_body(self, client: _Client, sock: socket.socket, head: bytes) -> None:
        if _header(head, b"transfer-encoding"):
            while True:
                while b"\r\n" not in client.buffer:
                    await self._need(client)
                size = int(client.buffer.split(b"\r\n", 1)[0].split(b";")[0], 16)
                line = client.buffer.index(b"\r\n") + 2
                await self._send_on(client, sock, line + size + 2)
                if not size:
                    return
        await self._send_on(client, sock, int(_header(head, b"content-length") or b"0"))

    async def _need(self, client: _Client) -> None:
        if not await self._receive(client):
            raise EOFError

    async def _send_on(self, client: _Client, sock: socket.socket, count: int) -> None:
        while count:
            if not client.buffer:
                await self._need(client)
            part, client.buffer = client.buffer[:count], client.buffer[count:]
            await self._loop.sock_sendall(sock, part)
            count -= len(part)

    async def _relay_answer(
        self, client: _Client, upstream: _Upstream, is_head: bool, body: asyncio.Task[None] | None = None
    ) -> None:
        """From the first byte of its head, until it ends."""
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                received = await self._loop.sock_recv(upstream.sock, _CHUNK)
                if not received:
                    self._drop(upstream)
                    await self._answer(client, _reply(503), ended=upstream.cookie)
                    return
                buffer += received
            end = buffer.index(b"\r\n\r\n") + 4
            head, buffer = buffer[:end], buffer[end:]
            status = int(head.split(b" ", 2)[1][:3])
            if status >= 200 or status == 101:
                break
            await self._give(client, head)
        length = _header(head, b"content-length")
        has_body = not (is_head or status in (204, 304))
        if has_body and _header(head, b"transfer-encoding"):
            await self._give(client, head)
            buffer = await self._relay_chunks(client, upstream, buffer)
        elif (has_body and not length) or status == 101:
            await self._give(client, head + buffer)
            await self._relay_rest(client, upstream)
            return
        else:
            size = int(length or b"0") if has_body else 0
            await self._relay_length(client, upstream, head + buffer, size, end, body)
            return
        if body:
            await body
        self._close_if_bound(client, upstream)
        await self._answer(client, buffer, ended=upstream.cookie)

    def _close_if_bound(self, client: _Client, upstream: _Upstream) -> None:
        if upstream.cookie in self._upstreams:
            self._drop(upstream)

    async def _relay_length(self, client, upstream, buffer: bytes, length: int, end: int, body) -> None:
        left = end + length
        while True:
            if len(buffer) >= left:
                if body:
                    await body
                self._close_if_bound(client, upstream)  # before the client can ask again
                await self._answer(client, buffer[:left], ended=upstream.cookie)
                return
            left -= len(buffer)
            await self._give(client, buffer)
            buffer = await self._loop.sock_recv(upstream.sock, _CHUNK)
            if not buffer:
                self._reset(client)
                raise EOFError

    async def _relay_chunks(self, client: _Client, upstream: _Upstream, buffer: bytes) -> bytes:
        """Gives all but the last part, which it returns."""
        while True:
            while b"\r\n" not in buffer:
                buffer += await self._loop.sock_recv(upstream.sock, _CHUNK)
            size = int(buffer.split(b"\r\n", 1)[0].split(b";")[0], 16)
            need = buffer.index(b"\r\n") + 2 + size + 2
            while len(buffer) < need:
                buffer += await self._loop.sock_recv(upstream.sock, _CHUNK)
            if not size:
                return buffer[:need]
            await self._give(client, buffer[:need])
            buffer = buffer[need:]

    async def _relay_rest(self, client: _Client, upstream: _Upstream) -> None:
        while received := await self._loop.sock_recv(upstream.sock, _CHUNK):
            await self._give(client, received)
        self._close_if_bound(client, upstream)
        client.sock.shutdown(socket.SHUT_WR)
        client.has_ended = True
        raise EOFError

    async def _give(self, client: _Client, data: bytes) -> None:
        client.given += len(data)
        await self._loop.sock_sendall(client.sock, data)

    async def _answer(self, client: _Client, last: bytes, *, ended: int = 0) -> None:
        """The last bytes of an answer; before them leave to go on, where the request's end is all that came."""
        if not client.buffer:
            grant = GRANT.pack(client.taken, client.given + len(last), ended)
            bpf.update(self._fds["grant"], _U64.pack(client.cookie), grant)
        with contextlib.suppress(OSError):
            await self._give(client, last)


def _reply(status: int) -> bytes:
    return b"HTTP/1.1 %d x\r\nserver: relay\r\ncontent-length: 0\r\n\r\n" % status
