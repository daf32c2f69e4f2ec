"""A relay that only echoes, with everything else of one: `python -m tests.support.echo_relay OPTIONS...`

It listens on 127.0.0.1 unless it adopts a listener, answers each client with what came and its own process id, and
adopts clients that it had. With KMESH_DIE_AT=NAME:COUNT in the environment it is killed before the COUNT-th call of
that step: copy, write_record, kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Self

from kmesh.relay import adoption, record, succession
from kmesh.relay.__main__ import RelayOptions, main
from kmesh.relay.journal import Identity, Kind, cookie_of
from kmesh.relay.keeper import Kept
from kmesh.relay.process_id import ProcessId
from kmesh.relay.succession import Succession


class EchoRelay:
    def __init__(self, options: RelayOptions, inherited: Succession) -> None:
        self._options, self._inherited = options, inherited
        self._clients: dict[int, socket.socket] = {}
        self._reloads = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        adopted = self._inherited.adopted
        if adopted.acceptors:
            self._listener = adopted.acceptors[0].sock
        else:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
            self._listener.setblocking(False)
            self._name(self._listener, Kind.ACCEPTOR)
        self.adopted_clients = len(adopted.clients)
        for client in adopted.clients:
            self._serve(client.sock)
        for sock in adopted.accepted:
            self._name(sock, Kind.CLIENT)
            self._serve(sock)
        self._loop.add_reader(self._listener, self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def status(self) -> dict[str, object]:
        port = self._listener.getsockname()[1]
        return {
            "pid": os.getpid(),
            "port": port,
            "clients": len(self._clients),
            "adopted": self.adopted_clients,
            "keeper": self._inherited.keeper.id.pid,
            "reloads": self._reloads,
        }

    async def reload(self) -> None:
        self._options.configuration.read_bytes()
        self._reloads += 1

    def _name(self, sock: socket.socket, kind: Kind) -> None:
        self._inherited.journal.slot(sock.fileno()).open(Identity(kind=kind, cookie=cookie_of(sock)))

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        if os.environ.get("KMESH_DIE_AT") == "accepted":
            os.kill(os.getpid(), signal.SIGKILL)
        self._name(sock, Kind.CLIENT)
        self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        self._clients[sock.fileno()] = sock
        self._loop.add_reader(sock, self._echo, sock)

    def _echo(self, sock: socket.socket) -> None:
        received = sock.recv(65536)
        if received:
            sock.send(received + f" {os.getpid()}\n".encode())
            return
        self._loop.remove_reader(sock)
        del self._clients[sock.fileno()]
        self._inherited.journal.slot(sock.fileno()).close()
        sock.close()


def _die_at(step: str, count: int) -> None:
    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        calls = iter(range(1, count + 1))

        def call(*arguments: Any) -> Any:
            if next(calls, None) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    match step:
        case "copy":
            Kept.copy = dying(Kept.copy)  # type: ignore[method-assign]
        case "kill":
            ProcessId.kill = dying(ProcessId.kill)  # type: ignore[method-assign]
        case "write_record":
            patched = dying(record.write_record)
            for module in (record, adoption, succession):
                module.write_record = patched  # type: ignore[attr-defined]


if __name__ == "__main__":
    step, _, count = os.environ.get("KMESH_DIE_AT", "").partition(":")
    if count:
        _die_at(step, int(count))
    main(sys.argv[1:], EchoRelay)
