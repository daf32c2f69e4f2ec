"""Relays that are killed with clients of the kernel's in hand: real processes, the programs, and real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from kmesh.relay.control import RelayUnreachable, fetch_status
from kmesh.relay.record import end_relay
from tests.kernel.conftest import Kernel
from tests.support.envoy import wait_until
from tests.support.l7_mesh import L7Mesh

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = b"".join(b"%08d" % number for number in range(1_500_000))
"""12 MB: more than all queues and pipes hold, and no part of it is like another."""
ROUTES = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            "routes": [
                {
                    "match": {"prefix": "/other"},
                    "route": {"cluster": "b", "timeout": "0s"},
                },
                {
                    "match": {"prefix": "/"},
                    "route": {"cluster": "a", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "websocket"}]},
                },
            ],
        }
    ]
}
CLIENT = """
import socket, sys
s = socket.create_connection(("127.96.0.1", 80), timeout=10)
for line in sys.stdin:
    verb, _, what = line.strip().partition(" ")
    what = bytes.fromhex(what)
    if verb == "send":
        s.sendall(what)
        print("sent", flush=True)
        continue
    got = b""
    try:
        while not got.endswith(what):
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    except OSError as error:
        got += repr(error).encode()
    print(got.hex(), flush=True)
"""


DYING = """
import os, runpy, signal, sys
from kmesh.relay.pools import Pools
from kmesh.relay.relay import Relay
at = sys.argv.pop(1)
def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)
if at == "drop":
    Pools.drop = die
else:
    Relay.forget = die
runpy.run_module("kmesh.relay", run_name="__main__", alter_sys=True)
"""
"""A relay that ends when it is about to close a bound connection, or with a client that it has closed."""


class Server:
    """Answers by the path; /hold and /held-trailer once `go_on` is set."""

    def __init__(self) -> None:
        self.go_on, self.asked = threading.Event(), threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            received = b""
            while b"\r\n\r\n" not in received:
                piece = sock.recv(65536)
                if not piece:
                    return
                received += piece
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    is_post = head.startswith(b"POST")
                    self._answer(sock, head.split(b" ")[1], received if is_post else b"")
                    received = b"" if is_post else received

    def _answer(self, sock: socket.socket, path: bytes, begun: bytes) -> None:
        """`begun`: what came of the request's body."""
        self.asked.release()
        if path.startswith(b"/hold"):
            self.go_on.wait(10)
        if path == b"/hold-body":
            while len(begun) < len(BIG) and (piece := sock.recv(1 << 20)):
                begun += piece
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + str(begun == BIG)[:4].encode())
        elif path == b"/trailer":
            sock.sendall(CHUNKED + b"1\r\n!\r\n0\r\nx: y\r\n\r\n")
        elif path == b"/interim":
            for part in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"):
                sock.sendall(part)
                time.sleep(0.05)
            self.go_on.wait(10)
            sock.sendall(b"Content-Length: 1\r\n\r\n!")
        elif path == b"/socket":
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\npush")
            while piece := sock.recv(1000):
                sock.sendall(b"heard " + piece)
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


class Relays:
    """One after the other, each a process."""

    def __init__(self, mesh: L7Mesh, server: Server) -> None:
        self.mesh, self.server = mesh, server
        self.sandbox, self._maps_dir = mesh.kernel.sandbox, mesh.kernel.build.maps_dir
        self._runtime_dir = self.sandbox.folder / "relay"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, dies_at: str = "") -> None:
        folder = self.sandbox.folder
        options = ["--maps-dir", self._maps_dir, "--configuration", folder / "relay.msgpack"]
        options += ["--runtime-dir", self._runtime_dir, "--cgroup", self.sandbox.pods]
        program = ["-c", DYING, dies_at] if dies_at else ["-m", "kmesh.relay"]
        command = [sys.executable, *program, *map(str, options)]
        self._process = process = self.sandbox.spawn(command)
        wait_until(lambda: self._pid() == process.pid, 10, "the relay to serve")

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait(10)

    def wait_until_dead(self) -> None:
        assert self._process
        self._process.wait(10)

    def replace(self) -> None:
        self.kill()
        self.start()

    def status(self) -> dict[str, Any]:
        return asyncio.run(fetch_status(self._runtime_dir, 5))

    def count_idle(self) -> int:
        return sum(pool["idle"] for pool in self.status()["pools"])

    def count_bound(self) -> int:
        return sum(pool["bound"] for pool in self.status()["pools"])

    def wait_for_idle(self) -> None:
        """Until programs find a connection."""
        wait_until(lambda: self.count_idle() > 0, 5, "a pool to fill")

    def end(self) -> None:
        end_relay(self._runtime_dir)
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def _pid(self) -> int:
        try:
            return int(asyncio.run(fetch_status(self._runtime_dir, 0.2))["pid"])
        except RelayUnreachable:
            return 0


class Puppet:
    """An enrolled client that does as it is told."""

    def __init__(self, relays: Relays) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", CLIENT]
        self._process = relays.sandbox.spawn(command, enrolled=True, stdin=pipe, stdout=pipe)

    def send(self, piece: bytes) -> None:
        self.begin(piece)
        assert self.hear() == "sent"

    def begin(self, piece: bytes) -> None:
        """To send it; `hear` tells that it is sent."""
        self._tell(f"send {piece.hex()}")

    def receive(self, end: bytes) -> bytes:
        """Up to and with `end`; less when nothing comes for 10 s."""
        self._tell(f"receive {end.hex()}")
        return bytes.fromhex(self.hear())

    def ask(self, path: bytes) -> bytes:
        self.send(get(path))
        return self.receive(b"\r\n\r\n" + path)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def hear(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, more)


@pytest.fixture
def relays(kernel: Kernel) -> Iterator[Relays]:
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server()))
        relays = Relays(L7Mesh(kernel, ROUTES, {"a": server.address, "b": server.address}), server)
        stack.callback(relays.end)
        relays.start()
        yield relays


@pytest.fixture
def client(relays: Relays) -> Iterator[Puppet]:
    with closing(Puppet(relays)) as client:
        assert client.ask(b"/first").startswith(b"HTTP/1.1 200 OK")
        relays.wait_for_idle()
        yield client


def test_an_exchange_that_a_predecessor_ended_is_waited_for_by_nobody(relays: Relays, client: Puppet) -> None:
    """The answer to the first is the relay's, so the kernel has that exchange in flight; the second came before."""
    client.send(get(b"/trailer"))
    client.send(get(b"/hold"))
    assert client.receive(b"x: y\r\n\r\n").startswith(CHUNKED)
    for _ in range(3):
        relays.server.asked.acquire(timeout=5)
    relays.replace()
    relays.server.go_on.set()
    assert client.receive(b"/hold").startswith(b"HTTP/1.1 200 OK")
    assert client.ask(b"/third").endswith(b"/third")
    assert client.ask(b"/fourth").endswith(b"/fourth")


def test_an_answer_whose_head_came_in_part_behind_an_interim_one(relays: Relays, client: Puppet) -> None:
    """The kernel carried the interim one, and the next is the relay's from its first byte."""
    before = relays.status()["events"].get("ANSWER", 0)
    client.send(get(b"/interim"))
    wait_until(lambda: relays.status()["events"].get("ANSWER", 0) > before, 5, "the answer to be handed over")
    relays.replace()
    relays.server.go_on.set()
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    assert client.receive(b"!") == head + b"!"
    assert client.ask(b"/next").endswith(b"/next")


def test_a_long_body_of_which_a_part_lies_in_a_pipe(relays: Relays) -> None:
    """By one relay after the other, none of which can empty it."""
    with closing(Puppet(relays)) as client:
        client.begin(b"POST /hold-body HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
        relays.server.asked.acquire(timeout=5)
        for _ in range(3):
            time.sleep(0.2)
            relays.replace()
        relays.server.go_on.set()
        assert client.hear() == "sent"
        assert client.receive(b"True").endswith(b"True")
        assert client.ask(b"/next").endswith(b"/next")


def test_endpoints_that_left_while_there_was_no_relay_are_drained(relays: Relays, client: Puppet) -> None:
    wait_until(lambda: client.ask(b"/x") and relays.count_bound() == 1, 5, "a connection to be bound")
    relays.kill()
    with closing(Server()) as new:
        relays.mesh.point_at("a", [new.address])
        relays.start()
        wait_until(lambda: relays.count_bound() == 0, 5, "the old connection to leave")
        assert client.ask(b"/y").endswith(b"/y")
        assert new.asked.acquire(timeout=1)


@pytest.mark.parametrize("dies_at", ["drop", "forget"])
def test_what_was_bound_to_a_client_that_is_gone_is_closed(relays: Relays, dies_at: str) -> None:
    """The relay ends with the client: with its last connection returned, or with both of them bound still."""
    with bound_to_two(relays, dies_at):
        pass
    relays.wait_until_dead()
    relays.start()
    wait_until(lambda: relays.count_bound() == 0, 5, "the connections to be closed")


def test_what_is_bound_to_a_client_that_a_predecessor_closed_goes_with_it(relays: Relays) -> None:
    """It has no channel any more, and programs tell of the last connection that it used alone."""
    with bound_to_two(relays, "forget") as client:
        client.send(b"what is no request\r\n\r\n")
        assert client.receive(b"\r\n\r\n").startswith(b"HTTP/1.1 400")
        relays.wait_until_dead()
        relays.start()
        assert relays.count_bound() == 2
    wait_until(lambda: relays.count_bound() == 0, 5, "the connections to be closed")


@contextlib.contextmanager
def bound_to_two(relays: Relays, dies_at: str) -> Iterator[Puppet]:
    """A client that has a connection of each cluster, by a relay that dies with it."""
    relays.kill()
    relays.start(dies_at=dies_at)
    with closing(Puppet(relays)) as client:
        wait_until(lambda: client.ask(b"/x") and relays.count_bound() == 1, 5, "a connection to be bound")
        wait_until(lambda: client.ask(b"/other") and relays.count_bound() == 2, 5, "another cluster's, too")
        yield client


def test_a_tunnel_in_which_only_the_server_spoke(relays: Relays, client: Puppet) -> None:
    client.send(get(b"/socket", b"Connection: upgrade\r\nUpgrade: websocket\r\n"))
    assert client.receive(b"push").startswith(b"HTTP/1.1 101")
    for text in (b"one", b"two"):
        relays.replace()
        client.send(text)
        assert client.receive(b"heard " + text) == b"heard " + text
