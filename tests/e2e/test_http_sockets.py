"""What programs do with a socket besides send() and recv(), on a connection whose requests are routed one by one.

Each is tried with exchanges that the kernel carries and with exchanges of the relay, as the two fill the client's
receive queue in different ways.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kmesh.model.address import SocketAddress
from tests.support.http_mesh import HttpMesh, carried, http_mesh
from tests.support.odd_server import odd_server
from tests.support.sandbox import Sandbox

PRELUDE = textwrap.dedent("""
    import errno, fcntl, json, os, select, socket, struct, sys, tempfile, termios, threading, time
    HOST, PORT, CARRIER = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    def request(path="/a/x", body=b"", method=b"GET"):
        '''The relay's is chunked.'''
        head = method + b" " + path.encode() + b" HTTP/1.1\\r\\nHost: x\\r\\n"
        if CARRIER == "relay":
            chunk = b"%x\\r\\n%s\\r\\n" % (len(body), body) if body else b""
            return head + b"Transfer-Encoding: chunked\\r\\n\\r\\n" + chunk + b"0\\r\\n\\r\\n"
        return head + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body
    def answer(body=b"a"):
        return b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
    ANSWER = answer()
    def connect(family=socket.AF_INET, host=HOST):
        s = socket.socket(family)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.settimeout(5)
        s.connect((host, PORT))
        return s
    def wait(s):
        assert select.select([s], [], [], 5)[0], "no answer"
    def settle(s, count):
        '''Until so many bytes have come.'''
        deadline = time.monotonic() + 5
        while unread(s) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        return unread(s)
    def unread(s):
        return struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, bytes(4)))[0]
    def read(s, count=None):
        out, count = b"", len(ANSWER) if count is None else count
        while len(out) < count:
            part = s.recv(count - len(out))
            if not part:
                break
            out += part
        return out
    def same(got, want):
        assert got == want, f"{got!r} instead of {want!r}"
""")
CARRIERS = ("kernel", "relay")


@pytest.fixture(scope="module")
def mesh() -> Iterator[HttpMesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        clusters = {name: stack.enter_context(odd_server(name)) for name in "ab"}
        yield stack.enter_context(http_mesh(sandbox, clusters))


def run(mesh: HttpMesh, code: str, carrier: str, host: str = "", want: int | None = None) -> Any:
    """The snippet in the enrolled cgroup; `want`: so many exchanges, all of them the carrier's."""
    arguments = (host or str(mesh.vip).rpartition(":")[0], str(mesh.vip.port), carrier)
    with carried(mesh, want) as exchanges:
        out = mesh.sandbox.python(PRELUDE + textwrap.dedent(code), *arguments)
    if want is not None:
        assert getattr(exchanges.found, carrier) == want
    return json.loads(out) if out else None


READS = {
    "FIONREAD counts what can be read": """
        s = connect()
        for _ in range(3):
            same(unread(s), 0)
            s.sendall(request())
            same(settle(s, len(ANSWER)), len(ANSWER))
            same(s.recv(7), ANSWER[:7])
            same(unread(s), len(ANSWER) - 7)
            same(s.recv(1000), ANSWER[7:])
            same(unread(s), 0)
    """,
    "poll is level triggered": """
        s, poll = connect(), select.poll()
        poll.register(s, select.POLLIN | select.POLLOUT)
        fd = s.fileno()
        for _ in range(3):
            same(poll.poll(0), [(fd, select.POLLOUT)])
            s.sendall(request())
            wait(s)
            for _ in range(2):
                same(poll.poll(0), [(fd, select.POLLIN | select.POLLOUT)])
            same(s.recv(1), ANSWER[:1])
            same(poll.poll(0), [(fd, select.POLLIN | select.POLLOUT)])
            same(read(s, len(ANSWER) - 1), ANSWER[1:])
    """,
    "epoll, level triggered": """
        s, epoll = connect(), select.epoll()
        epoll.register(s, select.EPOLLIN)
        for _ in range(3):
            same(epoll.poll(0), [])
            s.sendall(request())
            same(epoll.poll(5), [(s.fileno(), select.EPOLLIN)])
            same(s.recv(1), ANSWER[:1])
            same(epoll.poll(0), [(s.fileno(), select.EPOLLIN)])
            same(read(s, len(ANSWER) - 1), ANSWER[1:])
    """,
    "epoll, edge triggered": """
        s, epoll = connect(), select.epoll()
        s.setblocking(False)
        epoll.register(s, select.EPOLLIN | select.EPOLLET)
        for _ in range(20):
            s.sendall(request())
            got = b""
            while len(got) < len(ANSWER):
                assert epoll.poll(5), "no edge"
                while True:
                    try:
                        got += s.recv(5)
                    except BlockingIOError:
                        break
            same(got, ANSWER)
            same(epoll.poll(0), [])
    """,
    "epoll, once": """
        s, epoll = connect(), select.epoll()
        epoll.register(s, select.EPOLLIN | select.EPOLLONESHOT)
        for _ in range(3):
            s.sendall(request())
            same(epoll.poll(5), [(s.fileno(), select.EPOLLIN)])
            same(epoll.poll(0), [])
            same(read(s), ANSWER)
            epoll.modify(s, select.EPOLLIN | select.EPOLLONESHOT)
    """,
    "MSG_PEEK takes nothing": """
        s = connect()
        for _ in range(3):
            s.sendall(request())
            settle(s, len(ANSWER))
            for count in (1, 10, 1000):
                same(s.recv(count, socket.MSG_PEEK), ANSWER[:count])
            same(unread(s), len(ANSWER))
            same(s.recv(10), ANSWER[:10])
            same(s.recv(1000, socket.MSG_PEEK), ANSWER[10:])
            same(s.recv(1000), ANSWER[10:])
    """,
    "MSG_DONTWAIT": """
        s = connect()
        s.settimeout(None)
        try:
            s.recv(10, socket.MSG_DONTWAIT)
            raise AssertionError("nothing was asked for")
        except BlockingIOError:
            pass
        s.sendall(request())
        wait(s)
        same(s.recv(3, socket.MSG_DONTWAIT), ANSWER[:3])
        read(s, len(ANSWER) - 3)
    """,
    "MSG_WAITALL of what has come": """
        s = connect()
        s.settimeout(None)
        for size in (1, 100, 60000):
            want = answer(b"a" + b"x" * size)
            s.sendall(request("/a/x", b"x" * size, b"POST"))
            same(settle(s, len(want)), len(want))
            same(s.recv(len(want), socket.MSG_WAITALL), want)
    """,
    "recvmsg into several buffers": """
        s = connect()
        s.sendall(request())
        settle(s, len(ANSWER))
        parts = [bytearray(3), bytearray(5), bytearray(1000)]
        count, ancillary, flags, _ = s.recvmsg_into(parts)
        same((count, ancillary, flags & socket.MSG_TRUNC), (len(ANSWER), [], 0))
        same(b"".join(parts)[:count], ANSWER)
    """,
    "SO_RCVTIMEO": """
        s = connect()
        s.settimeout(None)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 30000))
        s.sendall(request("/a/slow"))
        begun = time.monotonic()
        try:
            s.recv(10)
            raise AssertionError("the answer takes 100 ms")
        except BlockingIOError:
            same(0.02 < time.monotonic() - begun < 0.09, True)
        wait(s)
        same(read(s), ANSWER)
    """,
    "a reader that waits in another thread": """
        s, got = connect(), []
        thread = threading.Thread(target=lambda: got.append(read(s)))
        thread.start()
        time.sleep(0.02)
        s.sendall(request())
        thread.join(5)
        same(got, [ANSWER])
    """,
    "makefile": """
        s = connect()
        with s.makefile("rwb") as stream:
            for _ in range(3):
                stream.write(request())
                stream.flush()
                same(stream.readline(), b"HTTP/1.1 200 OK\\r\\n")
                same(stream.read(len(ANSWER) - 17), ANSWER[17:])
    """,
}
EXCHANGES = {
    "FIONREAD counts what can be read": 3,
    "poll is level triggered": 3,
    "epoll, level triggered": 3,
    "epoll, edge triggered": 20,
    "epoll, once": 3,
    "MSG_PEEK takes nothing": 3,
    "MSG_WAITALL of what has come": 3,
    "makefile": 3,
}
"""Others have one."""


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", READS)
def test_reading(mesh: HttpMesh, code: str, carrier: str) -> None:
    run(mesh, READS[code], carrier, want=EXCHANGES.get(code, 1))


WRITES = {
    "non-blocking connect": """
        s = socket.socket()
        s.setblocking(False)
        same(s.connect_ex((HOST, PORT)) in (0, errno.EINPROGRESS), True)
        assert select.select([], [s], [], 5)[1], "not connected"
        same(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
        same(s.getpeername(), (HOST, PORT))
        same(s.send(request()), len(request()))
        wait(s)
        same(read(s), ANSWER)
    """,
    "sendfile": """
        s = connect()
        with tempfile.TemporaryFile() as file:
            file.write(b"behind" + request())
            file.flush()
            same(os.sendfile(s.fileno(), file.fileno(), 6, len(request())), len(request()))
        same(read(s), ANSWER)
    """,
    "splice to the socket": """
        s = connect()
        out, into = os.pipe()
        os.write(into, request())
        same(os.splice(out, s.fileno(), len(request())), len(request()))
        same(read(s), ANSWER)
    """,
    "writev": """
        s, whole = connect(), request()
        same(os.writev(s.fileno(), [whole[:5], whole[5:20], whole[20:]]), len(whole))
        same(read(s), ANSWER)
    """,
    "writev of very many parts": """
        s, whole = connect(), request()
        same(s.sendmsg([whole[at:at + 1] for at in range(len(whole))]), len(whole))
        same(read(s), ANSWER)
    """,
    "write": """
        s = connect()
        s.settimeout(None)
        os.write(s.fileno(), request())
        same(settle(s, len(ANSWER)), len(ANSWER))
        same(os.read(s.fileno(), 1000), ANSWER)
    """,
    "MSG_NOSIGNAL": """
        s = connect()
        s.send(request(), socket.MSG_NOSIGNAL)
        same(read(s), ANSWER)
    """,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", WRITES)
def test_writing(mesh: HttpMesh, code: str, carrier: str) -> None:
    run(mesh, WRITES[code], carrier, want=1)


IN_PARTS = {
    "MSG_MORE": """
        s, whole = connect(), request()
        s.send(whole[:9], socket.MSG_MORE)
        s.send(whole[9:])
        same(read(s), ANSWER)
    """,
    "TCP_CORK": """
        s, whole = connect(), request()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        s.send(whole[:9])
        s.send(whole[9:])
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        same(read(s), ANSWER)
    """,
    "Nagle's algorithm": """
        s, whole = connect(), request()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for at in range(len(whole)):
            s.send(whole[at:at + 1])
        same(read(s), ANSWER)
    """,
    "each half from a process": """
        s, whole = connect(), request()
        if os.fork() == 0:
            s.send(whole[:9])
            os._exit(0)
        os.wait()
        s.send(whole[9:])
        same(read(s), ANSWER)
    """,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", IN_PARTS)
def test_writing_in_parts(mesh: HttpMesh, code: str, carrier: str) -> None:
    """Who carries it is no one's promise."""
    run(mesh, IN_PARTS[code], carrier)


ENDS = {
    "the client has no more to say": """
        s = connect()
        s.sendall(request())
        s.shutdown(socket.SHUT_WR)
        same(read(s, 1000), ANSWER)
    """,
    "the same, before a slow answer": """
        s = connect()
        s.sendall(request("/a/slow"))
        s.shutdown(socket.SHUT_WR)
        same(read(s, 1000), ANSWER)
    """,
    "poll tells of the end": """
        s, poll = connect(), select.poll()
        poll.register(s, select.POLLIN | select.POLLRDHUP)
        s.sendall(request())
        same(read(s), ANSWER)
        same(poll.poll(0), [])
        s.shutdown(socket.SHUT_WR)
        ((_, found),) = poll.poll(5000)
        same(found & select.POLLRDHUP, select.POLLRDHUP)
        same(s.recv(10), b"")
    """,
    "the server ends with its answer": """
        s = connect()
        s.sendall(request("/a/close"))
        same(read(s, 1000), b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\na")
        same(s.recv(10), b"")
    """,
    "closed with an answer that no one reads": """
        s = connect()
        s.sendall(request())
        wait(s)
        s.close()
        s = connect()
        s.sendall(request())
        same(read(s), ANSWER)
    """,
    "closed before the answer comes": """
        s = connect()
        s.sendall(request("/a/slow"))
        s.close()
        s = connect()
        s.sendall(request())
        same(read(s), ANSWER)
    """,
    "reset": """
        s = connect()
        s.sendall(request("/a/slow"))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        s = connect()
        s.sendall(request())
        same(read(s), ANSWER)
    """,
    "SHUT_RD reads the end": """
        s = connect()
        s.sendall(request())
        same(read(s), ANSWER)
        s.shutdown(socket.SHUT_RD)
        same(s.recv(10), b"")
    """,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", ENDS)
def test_ends(mesh: HttpMesh, code: str, carrier: str) -> None:
    run(mesh, ENDS[code], carrier)


SHARED = {
    "dup": """
        s = connect()
        other = socket.socket(fileno=os.dup(s.fileno()))
        other.settimeout(5)
        s.sendall(request())
        same(read(other), ANSWER)
        s.close()
        other.sendall(request("/b/x"))
        same(read(other), answer(b"b"))
    """,
    "fork": """
        s = connect()
        s.sendall(request())
        if os.fork() == 0:
            same(read(s), ANSWER)
            s.sendall(request("/b/x"))
            os._exit(0)
        same(os.wait()[1], 0)
        same(read(s), answer(b"b"))
    """,
    "SCM_RIGHTS": """
        s, (here, there) = connect(), socket.socketpair()
        if os.fork() == 0:
            s.close()
            _, (fd,), _, _ = socket.recv_fds(there, 1, 1)
            got = socket.socket(fileno=fd)
            got.settimeout(5)
            got.sendall(request())
            same(read(got), ANSWER)
            os._exit(0)
        socket.send_fds(here, [b"s"], [s.fileno()])
        same(os.wait()[1], 0)
        s.sendall(request("/b/x"))
        same(read(s), answer(b"b"))
    """,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", SHARED)
def test_shared_sockets(mesh: HttpMesh, code: str, carrier: str) -> None:
    run(mesh, SHARED[code], carrier, want=2)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_socket_for_both_families(mesh: HttpMesh, carrier: str) -> None:
    code = """
        s = connect(socket.AF_INET6)
        same(s.getpeername()[:2], (HOST, PORT))
        same(s.getsockname()[0].startswith("::ffff:127."), True)
        for _ in range(3):
            s.sendall(request())
            same(read(s), ANSWER)
    """
    address: SocketAddress = mesh.vip
    run(mesh, code, carrier, host=f"::ffff:{str(address).rpartition(':')[0]}", want=3)


LIMITS = {
    "splice finds nothing": """
        out, into = os.pipe()
        try:
            os.splice(s.fileno(), into, 1000, flags=os.SPLICE_F_NONBLOCK)
            raise AssertionError("splice found something")
        except BlockingIOError:
            same(read(s), ANSWER)
    """,
    "MSG_WAITALL waits for the first byte alone": """
        s.settimeout(None)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
        begun = time.monotonic()
        same(s.recv(len(ANSWER) + 1, socket.MSG_WAITALL), ANSWER)
        same(time.monotonic() - begun < 0.5, True)
    """,
    "SO_RCVLOWAT counts as one": """
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
        assert select.select([s], [], [], 0.2)[0], "not readable"
        same(read(s), ANSWER)
    """,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("code", LIMITS)
def test_known_limits(mesh: HttpMesh, code: str, carrier: str) -> None:
    """What differs from a socket of no mesh (docs/http-sockets.md), with an answer that has come; no byte is lost.

    When one of these fails since the kernel has learned it, it is to be taken out of the document.
    """
    arrived = """
        s = connect()
        s.sendall(request())
        settle(s, len(ANSWER))
    """
    run(mesh, textwrap.dedent(arrived) + textwrap.dedent(LIMITS[code]), carrier, want=1)


@pytest.mark.parametrize("code", LIMITS)
def test_known_limits_are_no_limits_without_a_mesh(mesh: HttpMesh, code: str) -> None:
    """The same snippets fail on a plain connection to the same server."""
    host, port = mesh.clusters["a"]
    arrived = "\ns = connect()\ns.sendall(request())\nsettle(s, len(ANSWER))\n"
    with pytest.raises(RuntimeError, match="AssertionError"):
        mesh.sandbox.python(PRELUDE + arrived + textwrap.dedent(LIMITS[code]), host, str(port), "kernel")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_many_threads_with_connections_of_their_own(mesh: HttpMesh, carrier: str) -> None:
    code = """
        errors = []
        def work(number):
            s, name = connect(), "ab"[number % 2]
            for _ in range(50):
                s.sendall(request(f"/{name}/x"))
                got = read(s)
                if got != answer(name.encode()):
                    errors.append(got)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join(20)
        same(errors, [])
    """
    with carried(mesh, 400):
        run(mesh, code, carrier)
