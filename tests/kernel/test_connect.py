"""connect() and getpeername() in the real kernel, from processes in an enrolled cgroup."""

from __future__ import annotations

import errno
import json
import os
import socket
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kmesh.kernel import bpf
from kmesh.kernel.ring_buffer import RingBuffer
from kmesh.model.address import SocketAddress
from kmesh.records.constants import LIMITS, Action, Reason, StreamEvent
from kmesh.records.layout import EVENT, ID
from tests.kernel.conftest import Kernel
from tests.support.records import STAY, alias_node, backend, cluster, cursor_node, frontend, image

VIP = SocketAddress.parse("127.96.0.1", 80)
VIP6 = SocketAddress.parse("::1", 80)
CONNECT = textwrap.dedent("""
    import json, socket, sys
    family, host, port, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    out = []
    for _ in range(count):
        with socket.socket(family) as s:
            s.settimeout(5)
            code = s.connect_ex((host, port))
            out.append([code, "", 0, ""] if code else [code, *s.getpeername()[:2], s.recv(16).decode()])
    print(json.dumps(out))
""")


def connect(kernel: Kernel, host: str, port: int, *, family: int = socket.AF_INET, count: int = 1) -> list[list]:
    """[errno, peer address, peer port, who answered] of each of `count` connections."""
    return json.loads(kernel.sandbox.python(CONNECT, str(int(family)), host, str(port), str(count)))


@pytest.fixture
def servers() -> Iterator[dict[str, SocketAddress]]:
    """Servers that say their name and close: a, b and c on 127.0.0.x, six on ::1."""
    def serve(listener: socket.socket, name: str) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.sendall(name.encode())

    with ExitStack() as stack:
        out = {}
        for name, host in (("a", "127.0.0.2"), ("b", "127.0.0.3"), ("c", "127.0.0.4"), ("six", "::1")):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = stack.enter_context(socket.create_server((host, 0), family=family, backlog=512))
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=serve, args=(listener, name), daemon=True).start()
            out[name] = SocketAddress.parse(host, listener.getsockname()[1])
        yield out


def test_a_service_address_reaches_its_backend_and_getpeername_shows_the_service(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    before = kernel.count(Reason.BALANCED)

    assert connect(kernel, "127.96.0.1", 80) == [[0, "127.96.0.1", 80, "a"]]
    assert kernel.count(Reason.BALANCED) == before + 1


def test_ipv6_service_to_ipv6_backend(kernel: Kernel, servers) -> None:
    number, record = backend(servers["six"])
    kernel.applier.apply(image(one=[record, frontend(VIP6, Action.BACKEND, number)]))
    assert connect(kernel, "::1", 80, family=socket.AF_INET6) == [[0, "::1", 80, "six"]]


def test_v4_mapped_destination_of_an_ipv6_socket(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    got = connect(kernel, "::ffff:127.96.0.1", 80, family=socket.AF_INET6)
    assert got == [[0, "::ffff:127.96.0.1", 80, "a"]]


def test_ipv6_service_with_only_an_ipv4_backend_is_reached_v4_mapped(kernel: Kernel, servers) -> None:
    number, record = backend(servers["b"])
    kernel.applier.apply(image(one=[record, frontend(VIP6, Action.BACKEND, number)]))
    assert connect(kernel, "::1", 80, family=socket.AF_INET6) == [[0, "::1", 80, "b"]]


def test_dual_stack_backend_is_reached_in_the_family_asked_for(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"], servers["six"])
    records = [record, frontend(VIP, Action.BACKEND, number), frontend(VIP6, Action.BACKEND, number)]
    kernel.applier.apply(image(one=records))
    assert connect(kernel, "127.96.0.1", 80)[0][3] == "a"
    assert connect(kernel, "::1", 80, family=socket.AF_INET6)[0][3] == "six"


def test_an_ipv4_socket_is_refused_when_the_endpoint_has_only_ipv6(kernel: Kernel, servers) -> None:
    number, record = backend(servers["six"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    before = kernel.count(Reason.FAMILY)
    assert connect(kernel, "127.96.0.1", 80)[0][0] == errno.ECONNREFUSED
    assert kernel.count(Reason.FAMILY) == before + 1


REFUSALS = [reason for reason in Reason if reason >= Reason.NO_ENDPOINT]


@pytest.mark.parametrize("reason", REFUSALS, ids=lambda reason: reason.name)
def test_refusals_are_econnrefused_and_counted(kernel: Kernel, reason: Reason) -> None:
    kernel.applier.apply(image(one=[frontend(VIP, Action.REFUSE, int(reason))]))
    before = kernel.count(reason)
    assert connect(kernel, "127.96.0.1", 80)[0][0] == errno.ECONNREFUSED
    assert kernel.count(reason) == before + 1


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.96.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.96.0.1")],
    ids=["v4", "v6", "v4-mapped"],
)
def test_refusal_without_bpf_set_retval(old_kernel: Kernel, family: int, host: str) -> None:
    records = [frontend(address, Action.REFUSE, int(Reason.UNSUPPORTED)) for address in (VIP, VIP6)]
    old_kernel.applier.apply(image(one=records))
    assert connect(old_kernel, host, 80, family=family)[0][0] == errno.ECONNREFUSED
    assert old_kernel.count(Reason.UNSUPPORTED) > 0


@pytest.mark.parametrize(
    ("action", "target"),
    [(Action.BACKEND, 1), (Action.NODE, 2), (Action.CLUSTER, 3), (Action.NONE, 0), (99, 0), (Action.REFUSE, 1)],
    ids=["no-backend", "no-node", "no-cluster", "none", "unknown-action", "reason-that-is-no-refusal"],
)
def test_a_missing_or_unknown_record_refuses(kernel: Kernel, action: Action, target: int) -> None:
    kernel.applier.apply(image(one=[frontend(VIP, action, target)]))
    before = kernel.count(Reason.BROKEN)
    assert connect(kernel, "127.96.0.1", 80)[0][0] == errno.ECONNREFUSED
    assert kernel.count(Reason.BROKEN) == before + 1


def test_a_broken_seal_refuses(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    name, key, value = frontend(VIP, Action.BACKEND, number)
    torn = value[:-1] + bytes([value[-1] ^ 1])
    kernel.applier.apply(image(one=[record, (name, key, torn)]))
    before = kernel.count(Reason.BROKEN)
    assert connect(kernel, "127.96.0.1", 80)[0][0] == errno.ECONNREFUSED
    assert kernel.count(Reason.BROKEN) == before + 1


def test_an_address_outside_the_mesh_is_left_alone(kernel: Kernel, servers) -> None:
    kernel.applier.apply(image())
    address = servers["c"]
    before = kernel.count(Reason.NOT_MESH)
    assert connect(kernel, address.ip, address.port) == [[0, address.ip, address.port, "c"]]
    assert kernel.count(Reason.NOT_MESH) == before + 1


def test_wildcards_are_tried_after_the_exact_address(kernel: Kernel, servers) -> None:
    (a, record_a), (b, record_b), (c, record_c) = (backend(servers[name]) for name in "abc")
    wildcard = SocketAddress.parse("0.0.0.0", 80)
    rest = SocketAddress.parse("0.0.0.0", 0)
    records = [record_a, record_b, record_c]
    records += [
        frontend(VIP, Action.BACKEND, a),
        frontend(wildcard, Action.BACKEND, b),
        frontend(rest, Action.BACKEND, c),
    ]
    kernel.applier.apply(image(one=records))
    asked = (("127.96.0.1", 80), ("127.1.2.3", 80), ("127.1.2.3", 81))
    got = [connect(kernel, host, port)[0][3] for host, port in asked]
    assert got == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["v4", "v6"]
)
def test_a_wildcard_does_not_take_what_a_pod_says_to_itself(kernel: Kernel, family: int, host: str) -> None:
    refused = [
        frontend(SocketAddress.parse(wildcard, port), Action.REFUSE, int(Reason.BLACKHOLE))
        for wildcard in ("0.0.0.0", "::")
        for port in (0, 80)
    ]
    kernel.applier.apply(image(one=refused))
    before = kernel.count(Reason.NOT_MESH)
    assert connect(kernel, host, 80, family=family)[0][0] == errno.ECONNREFUSED  # nothing listens there
    assert kernel.count(Reason.NOT_MESH) == before + 1


def test_the_ipv4_wildcard_does_not_take_ipv6(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(SocketAddress.parse("0.0.0.0", 0), Action.BACKEND, number)]))
    six = servers["six"]
    assert connect(kernel, six.ip, six.port, family=socket.AF_INET6)[0][3] == "six"


def test_original_destination_passes(kernel: Kernel, servers) -> None:
    kernel.applier.apply(image(one=[frontend(SocketAddress.parse("0.0.0.0", 0), Action.PASS, 0)]))
    address = servers["b"]
    before = kernel.count(Reason.PASSED)
    assert connect(kernel, address.ip, address.port)[0][3] == "b"
    assert kernel.count(Reason.PASSED) == before + 1


def test_alias_node_splits_by_weight(kernel: Kernel, servers) -> None:
    (a, record_a), (b, record_b) = backend(servers["a"]), backend(servers["b"])
    # Weights 3 and 1 by Vose: entry 0 always stays; entry 1 stays for half of its draws, else goes to 0.
    node, record = alias_node([(STAY, 0, Action.BACKEND, a), (2**31 - 1, 0, Action.BACKEND, b)])
    number, cell = cluster("c", Action.NODE, node)
    kernel.applier.apply(image(one=[record_a, record_b, record, cell, frontend(VIP, Action.CLUSTER, number)]))
    total = 2000
    got = sum(row[3] == "a" for row in connect(kernel, "127.96.0.1", 80, count=total))
    assert abs(got - 1500) < 5 * (total * 0.75 * 0.25) ** 0.5


def test_cursor_node_takes_turns(kernel: Kernel, servers) -> None:
    made = [backend(servers[name]) for name in "abc"]
    node, records = cursor_node("c", [number for number, _ in made])
    kernel.applier.apply(image(one=[*(r for _, r in made), *records, frontend(VIP, Action.NODE, node)]))
    got = [row[3] for row in connect(kernel, "127.96.0.1", 80, count=30)]
    assert sorted(got[:3]) == ["a", "b", "c"]
    assert got == got[:3] * 10


def test_a_socket_that_connects_again_forgets_the_first_service(kernel: Kernel, servers) -> None:
    number, record = backend(SocketAddress.parse("127.0.0.9", 9))  # nothing listens there
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket, sys
        s = socket.socket()
        print(s.connect_ex(("127.96.0.1", 80)), end=" ")
        s.connect((sys.argv[1], int(sys.argv[2])))
        print(*s.getpeername())
    """)
    address = servers["a"]
    got = kernel.sandbox.python(code, address.ip, str(address.port)).split()
    assert got == [str(errno.ECONNREFUSED), address.ip, str(address.port)]


def test_fast_open_is_balanced_too(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket
        s = socket.socket()
        s.sendto(b"", socket.MSG_FASTOPEN, ("127.96.0.1", 80))
        print(s.recv(16).decode(), s.getpeername()[0])
    """)
    assert kernel.sandbox.python(code).split() == ["a", "127.96.0.1"]


def test_non_blocking_connect(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    refused = frontend(SocketAddress.parse("127.96.0.2", 80), Action.REFUSE, int(Reason.NO_ENDPOINT))
    records = [record, frontend(VIP, Action.BACKEND, number), refused]
    kernel.applier.apply(image(one=records))
    code = textwrap.dedent("""
        import asyncio
        async def main():
            reader, writer = await asyncio.open_connection("127.96.0.1", 80)
            print((await reader.read()).decode(), end=" ")
            try:
                await asyncio.open_connection("127.96.0.2", 80)
            except ConnectionRefusedError:
                print("refused")
        asyncio.run(main())
    """)
    assert kernel.sandbox.python(code).split() == ["a", "refused"]


def test_a_process_outside_the_cgroup_is_not_touched(kernel: Kernel, servers) -> None:
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    code = 'import socket; print(socket.socket().connect_ex(("127.96.0.1", 80)))'
    assert kernel.sandbox.python(code, enrolled=False).split() == [str(errno.ECONNREFUSED)]


def test_own_sockets_are_never_rewritten(kernel: Kernel, servers) -> None:
    """Marked and unmarked sockets of one enrolled process, to a service that has a backend."""
    number, record = backend(servers["a"])
    kernel.applier.apply(image(one=[record, frontend(VIP, Action.BACKEND, number)]))
    code = textwrap.dedent("""
        import socket, sys
        from pathlib import Path
        from kmesh.kernel.sockets import OwnSockets
        own = OwnSockets(Path(sys.argv[1]))
        for is_own in (True, False):
            s = socket.socket()
            if is_own:
                own.mark(s)
            print(s.connect_ex(("127.96.0.1", 80)))
    """)
    before = kernel.count(Reason.OWN)
    got = kernel.sandbox.python(code, str(kernel.build.maps_dir)).split()
    assert got == [str(errno.ECONNREFUSED), "0"]
    assert kernel.count(Reason.OWN) == before + 1


def test_a_namespace_without_an_acceptor_is_told_of_once(kernel: Kernel) -> None:
    """Until the element that says so is deleted; and where from, by the process."""
    kernel.applier.apply(image(listener=[frontend(VIP, Action.ROUTES, 1)]))
    before = kernel.count(Reason.NO_ACCEPTOR)
    with ExitStack() as stack:
        acceptors, events = (bpf.get_object(kernel.build.maps_dir / f"km_{name}") for name in ("acceptor", "events"))
        stack.callback(os.close, acceptors)
        stack.callback(os.close, events)
        ring = RingBuffer(events, LIMITS["EVENT_BYTES"])
        stack.callback(ring.close)
        list(ring.take())
        for _ in range(2):
            pid, *codes = kernel.sandbox.python(ASK, "3").split()
            assert codes == [str(errno.ECONNREFUSED)] * 3
            (event,) = (EVENT.unpack(record) for record in ring.take())
            assert (event["kind"], event["detail"]) == (StreamEvent.NO_ACCEPTOR, int(pid))
            assert bpf.delete(acceptors, ID.pack(event["netns"]))
    assert kernel.count(Reason.NO_ACCEPTOR) == before + 6


ASK = textwrap.dedent("""
    import os, socket, sys
    print(os.getpid(), *(socket.socket().connect_ex(("127.96.0.1", 80)) for _ in range(int(sys.argv[1]))))
""")
