"""The relay's clients and exchanges behind a plain listener, with no kernel programs: tests decide what is done."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kmesh.compiler.ir import Undetected
from kmesh.model.listener import Http10
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.channel import Channel, Readiness
from kmesh.relay.client import Client, UnfinishedHeads, Unreachable
from kmesh.relay.decide import Decision, Reply, ToCluster
from kmesh.relay.exchange import Asked
from kmesh.relay.head import RequestHead
from kmesh.relay.journal import Rest
from kmesh.relay.pump import Slot
from kmesh.relay.replies import describe_reset

__all__ = ["PlainRelay", "plain_relay", "reply", "to_cluster"]


def to_cluster(timeout_s: float | None = None, idle_timeout_s: float | None = None, **more) -> ToCluster:
    return ToCluster(
        name="c",
        cluster_id=1,
        timeout_s=timeout_s,
        idle_timeout_s=idle_timeout_s,
        connect_timeout_s=1.0,
        connect_retries=0,
        **more,
    )


@dataclass(eq=False)
class PlainRelay:
    """A Surroundings. What it was told is kept for tests to look at."""

    endpoint: tuple[str, int]
    decide_on: Callable[[RequestHead], Decision]
    readiness: Readiness
    unfinished: UnfinishedHeads = field(default_factory=UnfinishedHeads)
    port: int = 0
    unreachable: Unreachable | None = None
    """What dialling raises."""
    http10: Http10 | None = None
    undetected: Undetected | None = None
    chosen_from: list[tuple[WeightedCluster, ...]] = field(default_factory=list)
    is_kernels: bool = False
    """What `claim` denies."""
    make_slot: Callable[[Client, Channel, Asked, Mapping[int, Rest] | None], Slot] | None = None
    spares: list[Channel] = field(default_factory=list)
    """Connections that dialling gives first."""
    flying: int = 0
    """What `in_flight` says."""
    has_bound: bool = False
    """What `client_ended` says."""
    on_grant: Callable[[], None] | None = None
    clients: list[Client] = field(default_factory=list)
    serving: list[asyncio.Task[None]] = field(default_factory=list)
    """Of each client."""
    grants: list[tuple[int, int, int]] = field(default_factory=list)
    """(taken, given, ended)."""
    released: list[bool] = field(default_factory=list)
    """Whether it was clean, for each upstream connection."""
    ended: list[Client] = field(default_factory=list)
    forgotten: list[Client] = field(default_factory=list)

    def find_http10(self, routing: int) -> Http10 | None:
        return self.http10

    def find_undetected(self, routing: int) -> Undetected | None:
        return self.undetected

    def choose(self, clusters: tuple[WeightedCluster, ...]) -> ToCluster | None:
        self.chosen_from.append(clusters)
        return to_cluster() if clusters else None

    def claim(self, client: int) -> bool:
        return not self.is_kernels

    def decide(self, head: RequestHead, routing: int, port: int) -> Decision:
        return self.decide_on(head)

    async def dial(self, client: Client, to: ToCluster) -> Channel:
        if self.spares:
            return self.spares.pop(0)
        if self.unreachable:
            raise self.unreachable
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.endpoint)
        except OSError:
            sock.close()
            raise Unreachable(describe_reset(b"remote connection failure")) from None
        return Channel(sock, self.readiness)

    def begin_exchange(
        self, client: Client, upstream: Channel, asked: Asked, rests: Mapping[int, Rest] | None = None
    ) -> Slot | None:
        return self.make_slot(client, upstream, asked, rests) if self.make_slot else None

    def release(self, upstream: Channel, clean: bool) -> None:
        self.released.append(clean)
        if clean:
            upstream.close()
        else:
            upstream.reset()

    def in_flight(self, client: int) -> int:
        return self.flying

    def grant(self, client: int, taken: int, given: int, ended: int) -> None:
        self.grants.append((taken, given, ended))
        if self.on_grant:
            self.on_grant()

    def client_ended(self, client: Client) -> bool:
        self.ended.append(client)
        return self.has_bound

    def forget(self, client: Client) -> None:
        self.forgotten.append(client)


@asynccontextmanager
async def plain_relay(
    endpoint: tuple[str, int], choose: Callable[[RequestHead], Decision] = lambda _: to_cluster()
) -> AsyncIterator[PlainRelay]:
    """Listens on 127.0.0.1 at `port`."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)
        relay = PlainRelay(endpoint, choose, Readiness(), port=listener.getsockname()[1])
        accepting = asyncio.create_task(_accept(relay, listener))
        try:
            yield relay
        finally:
            accepting.cancel()
            for task in relay.serving:
                task.cancel()
            await asyncio.gather(accepting, *relay.serving, return_exceptions=True)
            for client in relay.clients:
                client.reset()
            relay.readiness.close()


async def _accept(relay: PlainRelay, listener: socket.socket) -> None:
    while True:
        sock, address = await asyncio.get_running_loop().sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = Channel(sock, relay.readiness)
        client = Client(channel, cookie=address[1], netns=0, routing=0, port=relay.port, surroundings=relay)
        relay.clients.append(client)
        relay.serving.append(asyncio.create_task(client.serve()))


def reply(status: int, body: bytes = b"", **more) -> Reply:
    headers = ((b"content-type", b"text/plain"),) if body else ()
    return Reply(status=status, body=body, **{"headers": headers, **more})
