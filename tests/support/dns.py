"""A DNS server on the loopback, UDP and TCP on one port, that answers as told and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer to one question. No records and NOERROR: the name exists without this type."""

    records: tuple[str, ...] = ()
    """Addresses, in the order to send them."""
    ttl: int = 60
    alias: str = ""
    """Answer through a CNAME to this name."""
    alias_ttl: int = 60
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    is_silent: bool = False
    is_truncated_on_udp: bool = False
    is_garbage: bool = False
    delay_s: float = 0.0


@dataclass(slots=True)
class DnsServer:
    zone: dict[tuple[str, str], Reply] = field(default_factory=dict)
    """{("backend.test.", "A"): reply}; anything else is NXDOMAIN."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(name, type, "udp" or "tcp") in order of arrival."""
    address: str = ""
    port: int = 0
    under_way: int = 0
    most_under_way: int = 0

    def write_resolv_conf(self, path: Path, *lines: str) -> Path:
        path.write_text("\n".join([f"nameserver {self.address}", *lines, ""]))
        return path

    async def respond(self, wire: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        reply = self.zone.get((name, kind), Reply(rcode=dns.rcode.NXDOMAIN))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(reply.delay_s)
        self.under_way -= 1
        if reply.is_silent:
            return None
        if reply.is_garbage:
            return b"\xff" * 7
        return _render(query, name, kind, reply, transport)


def _render(query: dns.message.Message, name: str, kind: str, reply: Reply, transport: str) -> bytes:
    response = dns.message.make_response(query)
    response.set_rcode(reply.rcode)
    if reply.is_truncated_on_udp and transport == "udp":
        response.flags |= dns.flags.TC
        return response.to_wire()
    if reply.alias:
        response.answer.append(dns.rrset.from_text(name, reply.alias_ttl, "IN", "CNAME", reply.alias))
    for record in reply.records:  # one set each, since dnspython writes the records of a set in random order
        response.answer.append(dns.rrset.from_text(reply.alias or name, reply.ttl, "IN", kind, record))
    return response.to_wire()


@asynccontextmanager
async def serve_dns(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[DnsServer]:
    server = DnsServer(address=address)
    while True:
        tcp = await asyncio.start_server(lambda reader, writer: _serve_tcp(server, reader, writer), address, port)
        server.port = tcp.sockets[0].getsockname()[1]
        try:
            udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(server), local_addr=(address, server.port)
            )
            break
        except OSError:  # somebody else's datagrams go to that port
            tcp.close()
            if port:
                raise
    async with tcp:
        yield server
    udp.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._answering: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(data, addr))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, wire: bytes, peer: tuple[str, int]) -> None:
        response = await self._server.respond(wire, "udp")
        if response is not None:
            self._transport.sendto(response, peer)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._answering:
            task.cancel()


async def _serve_tcp(server: DnsServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int.from_bytes(await reader.readexactly(2), "big")
    response = await server.respond(await reader.readexactly(length), "tcp")
    if response is not None:
        writer.write(len(response).to_bytes(2, "big") + response)
        await writer.drain()
    writer.close()
