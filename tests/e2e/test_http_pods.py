"""Requests that are routed one by one between pods: network namespaces that reach each other over veth."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from pyroute2 import NetNS

from tests.support.http_mesh import HttpMesh, carried, http_mesh
from tests.support.pods import inside, pods
from tests.support.sandbox import Sandbox

CLIENT, ADDRESSES = "10.244.0.2", {"a": "10.244.0.3", "b": "10.244.0.4"}
SERVER = textwrap.dedent("""
    import http.server, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = f"{sys.argv[1]} {self.client_address[0]} ".encode() + self.rfile.read(length)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        do_GET = do_POST
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(("", 80), Handler)
    print("ready", flush=True)
    server.serve_forever()
""")
ASKING = textwrap.dedent("""
    import http.client, json, sys
    connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
    out = []
    for method, path, header, body in json.loads(sys.argv[2]):
        connection.request(method, path, body, header)
        answer = connection.getresponse()
        out.append([answer.status, answer.read().decode()])
    print(json.dumps([out, connection.sock.getpeername()[0]]))
""")
Ask = tuple[str, str, dict[str, str], str]


@pytest.fixture(scope="module")
def mesh() -> Iterator[HttpMesh]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        stack.enter_context(pods(sandbox, client=f"{CLIENT}/24", **{n: f"{ip}/24" for n, ip in ADDRESSES.items()}))
        for name in ADDRESSES:
            stack.enter_context(server(sandbox, name))
        clusters = {name: (address, 80) for name, address in ADDRESSES.items()}
        yield stack.enter_context(http_mesh(sandbox, clusters, netns=f"{sandbox.instance}-client"))


@contextmanager
def server(sandbox: Sandbox, name: str) -> Iterator[None]:
    command = [*inside(sandbox, name), sys.executable, "-c", SERVER, name]
    process = sandbox.spawn(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.terminate()
        process.wait(10)


def ask(mesh: HttpMesh, asks: Sequence[Ask]) -> tuple[list[list[object]], str]:
    """[status, body] of each, and whom the client thinks it talks to."""
    address = str(mesh.vip).rpartition(":")[0]
    command = [*inside(mesh.sandbox, "client"), sys.executable, "-c", ASKING, address, json.dumps(asks)]
    answers, peer = json.loads(mesh.sandbox.run(command))
    return answers, peer


def test_each_request_goes_to_its_pod(mesh: HttpMesh) -> None:
    """Whose server sees the address of the client's pod."""
    asks: list[Ask] = []
    for name in ("a", "b", "b", "a"):
        asks += [("GET", f"/{name}/x", {}, ""), ("GET", "/by-header/x", {"x-to": name}, "")]
    with carried(mesh, len(asks)) as exchanges:
        answers, peer = ask(mesh, asks)
    want = [[200, f"{name} {CLIENT} "] for name in ("a", "b", "b", "a") for _ in range(2)]
    assert answers == want
    assert f"{peer}:{mesh.vip.port}" == str(mesh.vip)
    assert exchanges.found.relay == 0


@pytest.mark.parametrize(("length", "is_kernels"), [(1, True), (65_536, True), (65_537, False), (3_000_000, False)])
def test_bodies_cross(mesh: HttpMesh, length: int, is_kernels: bool) -> None:
    body = "x" * length
    file = mesh.sandbox.folder / "ask"
    file.write_text(body)
    code = ASKING.replace("json.loads(sys.argv[2])", '[("POST", "/a/x", {}, open(sys.argv[2]).read())] * 3')
    command = [*inside(mesh.sandbox, "client"), sys.executable, "-c", code, str(mesh.vip).rpartition(":")[0]]
    with carried(mesh, 3) as exchanges:
        answers, _ = json.loads(mesh.sandbox.run([*command, str(file)]))
    assert answers == [[200, f"a {CLIENT} {body}"]] * 3
    assert exchanges.found.kernel == 3 * is_kernels


def test_a_server_that_goes_away(mesh: HttpMesh) -> None:
    """Its pod's link is down: requests to another go on, and those to it come to no answer of another's."""
    code = """
        import http.client, json, sys
        out = []
        for path in ("/a/x", "/b/x", "/a/x"):
            connection = http.client.HTTPConnection(sys.argv[1], timeout=0.5)
            try:
                connection.request("GET", path)
                out.append(connection.getresponse().read().decode())
            except TimeoutError:
                out.append("")
        print(json.dumps(out))
    """
    command = [*inside(mesh.sandbox, "client"), sys.executable, "-c", textwrap.dedent(code)]
    with NetNS(f"{mesh.sandbox.instance}-b") as pod:
        link = pod.link_lookup(ifname="eth0")[0]
        pod.link("set", index=link, state="down")
        try:
            got = json.loads(mesh.sandbox.run([*command, str(mesh.vip).rpartition(":")[0]]))
        finally:
            pod.link("set", index=link, state="up")
    assert got[0] == got[2] == f"a {CLIENT} "
    assert not got[1].startswith("a")
