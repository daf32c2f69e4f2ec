"""Servers that say who they are: `python -m tests.support.name_server a=127.0.0.1 six=::1 b=127.0.0.1:7000`.

Each has one port, for TCP and for UDP. Over TCP it sends its name at once, in a line, and then echoes; a datagram is
answered with the name and its own content. The first line on standard output is {name: [address, port]}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvloop

from tests.support.sandbox import Sandbox

__all__ = ["Address", "name_servers"]

Address = tuple[str, int]
"""IP address and port."""

_TRIES = 20


@contextmanager
def name_servers(sandbox: Sandbox, *names: str, prefix: Sequence[str] = ()) -> Iterator[dict[str, Address]]:
    """One process outside the mesh for all of them; arguments as on the command line. `prefix` is a command that
    runs it ("nsenter ...")."""
    command = [*prefix, sys.executable, "-m", "tests.support.name_server", *names]
    with sandbox.spawn(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield {name: (ip, port) for name, (ip, port) in json.loads(process.stdout.readline()).items()}
        finally:
            process.kill()


class _Connections(asyncio.Protocol):
    def __init__(self, name: str) -> None:
        self._greeting = f"{name}\n".encode()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name + b" " + data, addr)


async def _serve(arguments: list[str]) -> None:
    loop, addresses = asyncio.get_running_loop(), {}
    for argument in arguments:
        name, _, where = argument.partition("=")
        ip, port = _split(where)
        stream, datagrams = _bind_pair(ip, port)
        await loop.create_server(lambda name=name: _Connections(name), sock=stream, backlog=4096)  # type: ignore[misc]
        await loop.create_datagram_endpoint(lambda name=name: _Datagrams(name), sock=datagrams)  # type: ignore[misc]
        addresses[name] = stream.getsockname()[:2]
    print(json.dumps(addresses), flush=True)
    await asyncio.Event().wait()


def _split(where: str) -> Address:
    if where.count(":") == 1:
        ip, _, port = where.partition(":")
        return ip, int(port)
    return where, 0


def _bind_pair(ip: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A listening TCP socket and a UDP socket of one port; any port that is free for both when it is 0."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for _ in range(_TRIES):
        stream = socket.create_server((ip, port), family=family, backlog=4096)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            datagrams.bind((ip, stream.getsockname()[1]))
            return stream, datagrams
        stream.close()
        datagrams.close()
    raise OSError(f"no port of {ip} is free for both TCP and UDP")


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1:]))
