"""UDP in the real kernel: connected sockets, sendto() and recvfrom(), flows that stick."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import Action, Reason
from tests.kernel.conftest import Kernel
from tests.support.records import backend, cursor_node, frontend, image

VIP = SocketAddress.parse("127.96.0.1", 53)
VIP6 = SocketAddress.parse("::1", 53)


@pytest.fixture
def echoes() -> Iterator[dict[str, SocketAddress]]:
    """UDP servers that answer with their name."""

    def serve(sock: socket.socket, name: str) -> None:
        while True:
            data, peer = sock.recvfrom(64)
            if data == b"stop":
                return
            sock.sendto(name.encode(), peer)

    with ExitStack() as stack:
        out = {}
        for name, host in (("a", "127.0.0.2"), ("b", "127.0.0.3"), ("six", "::1")):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.bind((host, 0))
            thread = threading.Thread(target=serve, args=(sock, name), daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(sock.sendto, b"stop", sock.getsockname())
            out[name] = SocketAddress.parse(host, sock.getsockname()[1])
        yield out


def udp_frontend(address: SocketAddress, action: Action, target: int):
    return frontend(address, action, target, Protocol.UDP)


SENDTO = textwrap.dedent("""
    import socket, sys
    family, host, port, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(5)
    for _ in range(count):
        s.sendto(b"?", (host, port))
        data, peer = s.recvfrom(64)
        print(data.decode(), peer[0], peer[1])
""")


@pytest.mark.parametrize(
    ("family", "host", "service", "server"),
    [
        (socket.AF_INET, "127.96.0.1", VIP, "a"),
        (socket.AF_INET6, "::ffff:127.96.0.1", VIP, "a"),
        (socket.AF_INET6, "::1", VIP6, "six"),
    ],
    ids=["v4", "v4-mapped", "v6"],
)
def test_sendto_reaches_the_backend_and_the_reply_comes_from_the_service(
    kernel: Kernel, echoes, family: int, host: str, service: SocketAddress, server: str
) -> None:
    number, record = backend(echoes[server])
    kernel.applier.apply(image(one=[record, udp_frontend(service, Action.BACKEND, number)]))
    got = kernel.sandbox.python(SENDTO, str(int(family)), host, "53", "2").split()
    assert got == [server, host, "53"] * 2


def test_a_flow_keeps_its_backend_and_another_socket_gets_the_next(kernel: Kernel, echoes) -> None:
    (a, record_a), (b, record_b) = backend(echoes["a"]), backend(echoes["b"])
    node, records = cursor_node("u", [a, b])
    kernel.applier.apply(image(one=[record_a, record_b, *records, udp_frontend(VIP, Action.NODE, node)]))
    arguments = (str(int(socket.AF_INET)), "127.96.0.1", "53", "5")
    first, second = (kernel.sandbox.python(SENDTO, *arguments).split()[::3] for _ in range(2))
    assert len(set(first)) == len(set(second)) == 1
    assert set(first) != set(second)


def test_a_flow_moves_when_its_backend_is_gone(kernel: Kernel, echoes) -> None:
    (a, record_a), (b, record_b) = backend(echoes["a"]), backend(echoes["b"])
    code = textwrap.dedent("""
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        while input():
            s.sendto(b"?", ("127.96.0.1", 53))
            data, peer = s.recvfrom(64)
            print(data.decode(), *peer, flush=True)
    """)
    kernel.applier.apply(image(one=[record_a, udp_frontend(VIP, Action.BACKEND, a)]))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with kernel.sandbox.spawn([sys.executable, "-c", code], enrolled=True, **pipes) as client:
        got = []
        for records in ([record_a, a], [record_b, b]):
            kernel.applier.apply(image(one=[records[0], udp_frontend(VIP, Action.BACKEND, records[1])]))
            client.stdin.write("go\n")
            client.stdin.flush()
            got.append(client.stdout.readline().split())
        client.stdin.write("\n")
        client.stdin.flush()
        client.wait(5)
    assert got == [["a", "127.96.0.1", "53"], ["b", "127.96.0.1", "53"]]


def test_connected_udp(kernel: Kernel, echoes) -> None:
    number, record = backend(echoes["a"])
    kernel.applier.apply(image(one=[record, udp_frontend(VIP, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.connect(("127.96.0.1", 53))
        s.send(b"?")
        data, peer = s.recvfrom(64)
        print(data.decode(), *peer, *s.getpeername())
    """)
    assert kernel.sandbox.python(code).split() == ["a", "127.96.0.1", "53", "127.96.0.1", "53"]


def test_a_refused_second_connect_changes_nothing(kernel: Kernel, echoes) -> None:
    """As the kernel's own failures do: the socket goes on with the peer it has, and says so."""
    number, record = backend(echoes["a"])
    refused = udp_frontend(SocketAddress.parse("127.96.0.2", 53), Action.REFUSE, int(Reason.NO_ENDPOINT))
    kernel.applier.apply(image(one=[record, refused, udp_frontend(VIP, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.connect(("127.96.0.1", 53))
        print(s.connect_ex(("127.96.0.2", 53)), *s.getpeername())
        s.send(b"?")
        print(s.recv(64).decode())
    """)
    assert kernel.sandbox.python(code).split() == [str(errno.ECONNREFUSED), "127.96.0.1", "53", "a"]


def test_refused_sendto(kernel: Kernel) -> None:
    kernel.applier.apply(image(one=[udp_frontend(VIP, Action.REFUSE, int(Reason.NO_ENDPOINT))]))
    code = textwrap.dedent("""
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            s.sendto(b"?", ("127.96.0.1", 53))
        except OSError as error:
            print(error.errno)
    """)
    assert kernel.sandbox.python(code).split() == [str(errno.ECONNREFUSED)]


def test_sendto_an_ipv6_service_is_refused_where_its_endpoint_has_only_ipv4(kernel: Kernel, echoes) -> None:
    """The kernel itself would fail it with an error that no application knows (524); connect() can do it."""
    number, record = backend(echoes["a"])
    kernel.applier.apply(image(one=[record, udp_frontend(VIP6, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.settimeout(5)
        try:
            s.sendto(b"?", ("::1", 53))
        except OSError as error:
            print(error.errno)
        s.connect(("::1", 53))
        s.send(b"?")
        print(s.recv(64).decode())
    """)
    before = kernel.count(Reason.FAMILY)
    assert kernel.sandbox.python(code).split() == [str(errno.ECONNREFUSED), "a"]
    assert kernel.count(Reason.FAMILY) == before + 1


def test_sendto_a_dual_stack_endpoint_goes_in_the_family_asked_for(kernel: Kernel, echoes) -> None:
    number, record = backend(echoes["a"], echoes["six"])
    records = [record, udp_frontend(VIP, Action.BACKEND, number), udp_frontend(VIP6, Action.BACKEND, number)]
    kernel.applier.apply(image(one=records))
    for family, host, want in ((socket.AF_INET, "127.96.0.1", "a"), (socket.AF_INET6, "::1", "six")):
        got = kernel.sandbox.python(SENDTO, str(int(family)), host, "53", "1").split()
        assert got == [want, host, "53"]


def test_tcp_and_udp_of_one_address_are_apart(kernel: Kernel, echoes) -> None:
    number, record = backend(echoes["a"])
    records = [record, udp_frontend(VIP, Action.BACKEND, number)]
    records.append(frontend(VIP, Action.REFUSE, int(Reason.BLACKHOLE)))
    kernel.applier.apply(image(one=records))
    before = kernel.count(Reason.BLACKHOLE)
    kernel.sandbox.python('import socket; socket.socket().connect_ex(("127.96.0.1", 53))')
    got = kernel.sandbox.python(SENDTO, str(int(socket.AF_INET)), "127.96.0.1", "53", "1").split()
    assert got[0] == "a"
    assert kernel.count(Reason.BLACKHOLE) == before + 1
