"""Endpoints by the records in the kernel, and connections to them."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from kmesh.kernel.namespaces import NamespaceThread, namespace_cookie
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action, Reason
from kmesh.relay.dial import SEND_BYTES, DialError, Dialler
from kmesh.relay.namespaces import Namespace
from tests.kernel.conftest import Kernel
from tests.support.records import alias_node, backend, cluster, cursor_node, frontend, image

STAY = 2**32 - 1


@pytest.fixture
def dialler(kernel: Kernel) -> Iterator[Dialler]:
    dialler = Dialler(kernel.build.maps_dir)
    yield dialler
    dialler.close()


@pytest.fixture
def home() -> Iterator[Namespace]:
    thread = NamespaceThread()
    with socket.socket() as sock:
        yield Namespace(0, namespace_cookie(sock), -1, thread)
    thread.close()


def address(port: int, ip: str = "127.0.0.1") -> SocketAddress:
    return SocketAddress.parse(ip, port)


def test_a_round_robin_goes_on_in_the_kernels_cursor(kernel: Kernel, dialler: Dialler) -> None:
    backends = [backend(address(port)) for port in range(1, 4)]
    node, records = cursor_node("n", [number for number, _ in backends])
    c, cell = cluster("c", Action.NODE, node)
    kernel.applier.apply(image(c=[*(record for _, record in backends), *records, cell]))
    ports = [dialler.choose(c).addresses[0].port for _ in range(5)]
    other = Dialler(kernel.build.maps_dir)
    ports.append(other.choose(c).addresses[0].port)
    other.close()
    first = ports[0] - 1
    assert ports == [1 + (first + i) % 3 for i in range(6)]
    assert dialler.list_backends(c) == {number for number, _ in backends}


def test_tables_that_grow_are_followed(kernel: Kernel, dialler: Dialler) -> None:
    """Far beyond the size that the inner maps began with."""
    fragments, ids = {}, []
    for i in range(2000):
        number, record = backend(address(1 + i))
        c, cell = cluster(f"g{i}", Action.BACKEND, number)
        fragments[f"g{i}"] = [record, cell]
        ids.append(c)
        if i in (0, 300, 1999):
            kernel.applier.apply(image(**fragments))
            assert dialler.choose(c).addresses == (address(1 + i),)
    assert dialler.choose(ids[0]).addresses == (address(1),)


def test_weights(kernel: Kernel, dialler: Dialler) -> None:
    (one, record), (two, other) = backend(address(1)), backend(address(2))
    node, alias = alias_node([(STAY, 0, Action.BACKEND, one), (STAY // 2, 0, Action.BACKEND, two)])
    c, cell = cluster("c", Action.NODE, node)
    kernel.applier.apply(image(c=[record, other, alias, cell]))
    got = Counter(dialler.choose(c).backend for _ in range(2000))
    assert 1350 < got[one] < 1650, got


@pytest.mark.parametrize(
    ("action", "target", "body"),
    [
        (Action.REFUSE, Reason.NO_ENDPOINT, b"no healthy upstream"),
        (Action.REFUSE, Reason.BLACKHOLE, b"no healthy upstream"),
        (Action.REFUSE, Reason.OVERLOAD_DROP, b"drop overload"),
        (Action.BACKEND, 12345, b"no healthy upstream"),
    ],
    ids=["no endpoint", "black hole", "drop", "missing record"],
)
def test_no_endpoint(kernel: Kernel, dialler: Dialler, action: Action, target: int, body: bytes) -> None:
    c, cell = cluster("c", action, target)
    kernel.applier.apply(image(c=[cell]))
    with pytest.raises(DialError) as error:
        dialler.choose(c)
    assert error.value.body == body
    assert dialler.failures.total() == 1


def test_a_cluster_that_may_drop_has_no_list_of_backends(kernel: Kernel, dialler: Dialler) -> None:
    one, record = backend(address(1))
    node, alias = alias_node([(STAY, 0, Action.BACKEND, one), (STAY, 0, Action.REFUSE, Reason.OVERLOAD_DROP)])
    c, cell = cluster("c", Action.NODE, node)
    kernel.applier.apply(image(c=[record, alias, cell]))
    assert dialler.list_backends(c) is None


def test_a_connection_is_ready_for_programs(kernel: Kernel, dialler: Dialler, home: Namespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number, record = backend(address(server.getsockname()[1]))
        c, cell = cluster("c", Action.BACKEND, number)
        kernel.applier.apply(image(c=[record, cell]))
        dialled = asyncio.run(dialler.dial(home, c, timeout_s=1))
        with dialled.sock as sock:
            assert sock.getpeername() == server.getsockname()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BYTES
            assert dialled.backend == number


def test_failures_in_envoys_words(kernel: Kernel, dialler: Dialler, home: Namespace) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        number, record = backend(address(bound.getsockname()[1]))
        c, cell = cluster("c", Action.BACKEND, number)
        kernel.applier.apply(image(c=[record, cell]))
        with pytest.raises(DialError, match="econnrefused") as error:
            asyncio.run(dialler.dial(home, c, timeout_s=1))
    assert error.value.body.endswith(b"reset reason: remote connection failure")


def test_a_listener_that_is_full_is_given_up(kernel: Kernel, dialler: Dialler, home: Namespace) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        number, record = backend(address(server.getsockname()[1]))
        c, cell = cluster("c", Action.BACKEND, number)
        kernel.applier.apply(image(c=[record, cell]))
        with pytest.raises(DialError) as error:
            asyncio.run(dialler.dial(home, c, timeout_s=0.1))
    assert error.value.body.endswith(b"reset reason: connection timeout")


def test_the_other_family_is_tried_where_there_is_no_way(kernel: Kernel, dialler: Dialler, home: Namespace) -> None:
    """A multicast address cannot be connected to."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        number, record = backend(address(port, "224.0.0.9"), address(port, "::1"))
        c, cell = cluster("c", Action.BACKEND, number)
        kernel.applier.apply(image(c=[record, cell]))
        dialled = asyncio.run(dialler.dial(home, c, timeout_s=1))
        dialled.sock.close()
        assert dialled.address == address(port, "::1")


def test_programs_leave_the_relays_connections_alone(kernel: Kernel) -> None:
    """Also where the relay runs in an enrolled cgroup: the address it dials is a service, too."""
    code = """
import asyncio, socket, sys
from pathlib import Path
from kmesh.relay.dial import Dialler
from kmesh.relay.namespaces import Namespace
dialled = asyncio.run(Dialler(Path(sys.argv[1])).dial(Namespace(0, 0, -1, None), int(sys.argv[2]), timeout_s=1))
print(dialled.sock.getpeername()[1])
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = address(server.getsockname()[1])
        number, record = backend(here)
        c, cell = cluster("c", Action.BACKEND, number)
        refused = frontend(here, Action.REFUSE, Reason.NO_ENDPOINT)
        kernel.applier.apply(image(c=[record, cell], f=[refused]))
        got = kernel.sandbox.python(code, str(kernel.build.maps_dir), str(c))
    assert int(got) == here.port
