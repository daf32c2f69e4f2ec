"""Real clients and servers over requests that are routed one by one: all answers are right, and who carried them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

import pytest

from tests.support.http_clients import CLIENTS, Answer, Ask, ask_with, compile_java
from tests.support.http_mesh import HttpMesh, carried, http_mesh
from tests.support.http_servers import BIG_BYTES, SERVERS, http_servers
from tests.support.sandbox import Sandbox

WEIGHTS = {"nginx": 1, "node": 3}
ROUNDS = 10
ECHOING = [name for name in SERVERS if name != "nginx"]


@pytest.fixture(scope="module")
def mesh() -> Iterator[HttpMesh]:
    with (
        Sandbox() as sandbox,
        http_servers(sandbox) as addresses,
        http_mesh(sandbox, addresses, weights=WEIGHTS) as mesh,
    ):
        compile_java(sandbox.folder)
        yield mesh


@pytest.fixture
def base(mesh: HttpMesh) -> str:
    return f"http://{mesh.vip}"


def hello(server: str) -> Answer:
    """Envoy passes on what Node says."""
    return Answer(200, server, "node" if server == "envoy" else server)


def by_path(server: str, rest: str = "hello") -> Ask:
    return Ask(path=f"/{server}/{rest}")


def by_header(server: str) -> Ask:
    return Ask(path="/by-header/hello", header=f"x-to: {server}")


@pytest.mark.parametrize("client", CLIENTS)
def test_each_request_goes_its_own_way(mesh: HttpMesh, base: str, client: str) -> None:
    """To all servers in turn, by path and by header, on one connection where the client keeps one."""
    asks = [make(server) for _ in range(ROUNDS) for server in SERVERS for make in (by_path, by_header)]
    want = [hello(server) for _ in range(ROUNDS) for server in SERVERS for _ in range(2)]
    with carried(mesh, len(asks)) as exchanges:
        assert ask_with(mesh.sandbox, client, base, asks) == want
    assert exchanges.found.relay == relayed_by_nature(client, len(asks))


def relayed_by_nature(client: str, count: int) -> int:
    """Requests that say Upgrade or Connection: close."""
    return count if client in ("java, asking for HTTP/2", "node, a connection each") else 0


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ECHOING)
def test_bodies_go_and_come_back(mesh: HttpMesh, base: str, client: str, server: str) -> None:
    """Of each a plain one, one as long as the kernel carries, one that the relay does, and a request behind it."""
    bodies = ("a", "b" * 65536, "c" * 65537, "d" * 300_000)
    asks = [Ask(method="POST", path=f"/{server}/echo", body=body) for body in bodies] + [by_header("nginx")]
    with carried(mesh, len(asks)) as exchanges:
        got = ask_with(mesh.sandbox, client, base, asks)
    assert got == [*(Answer(200, server, body) for body in bodies), hello("nginx")]
    if relayed_by_nature(client, 1) == 0:
        assert exchanges.found.kernel == 3


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ECHOING)
def test_chunked_answers(mesh: HttpMesh, base: str, client: str, server: str) -> None:
    ask = Ask(method="POST", path=f"/{server}/chunked", body="x" * 20_000)
    body = ask.body + ("node" if server == "envoy" else server)
    with carried(mesh, 4):
        got = ask_with(mesh.sandbox, client, base, [ask, by_path("nginx"), ask, by_path("nginx")])
    assert got == [Answer(200, server, body), hello("nginx")] * 2


@pytest.mark.parametrize("client", CLIENTS)
def test_what_no_server_answers(mesh: HttpMesh, base: str, client: str) -> None:
    """And the connection goes on."""
    paths = ("/gone/hello", "/nginx/hello", "/none/hello", "/nginx/hello")
    with carried(mesh, len(paths)):
        got = ask_with(mesh.sandbox, client, base, [Ask(path=path) for path in paths])
    assert [answer.status for answer in got] == [404, 200, 503, 200]
    assert got[1] == got[3] == hello("nginx")


def test_weights_hold_for_requests(mesh: HttpMesh, base: str) -> None:
    count, whole = 2000, sum(WEIGHTS.values())
    with carried(mesh, count) as exchanges:
        answers = ask_with(mesh.sandbox, "http.client", base, [Ask(path="/split/hello")] * count)
    got = Counter(answer.server for answer in answers)
    assert set(got) == set(WEIGHTS)
    for server, weight in WEIGHTS.items():
        share = weight / whole
        assert abs(got[server] - count * share) <= 3 * sqrt(count * share * (1 - share)), got
    assert exchanges.found.kernel == count


# curl

SHOW = "\t%{http_code}\t%{num_connects}\n"


def curl(mesh: HttpMesh, *arguments: str) -> list[tuple[str, int, int]]:
    """(body, status, connections made) of each transfer; `--next` is no argument of any."""
    out = mesh.sandbox.run(["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", SHOW, *arguments])
    found = re.findall(r"(.*?)\t(\d{3})\t(\d+)\n", out, re.S)
    return [(body, int(status), int(connections)) for body, status, connections in found]


def test_curl_keeps_its_connection(mesh: HttpMesh, base: str) -> None:
    urls = [f"{base}/{server}/hello" for _ in range(5) for server in SERVERS]
    with carried(mesh, len(urls)) as exchanges:
        got = curl(mesh, *urls)
    want = [(hello(server).body, 200) for _ in range(5) for server in SERVERS]
    assert [(body, status) for body, status, _ in got] == want
    assert sum(connections for *_, connections in got) == 1
    assert exchanges.found.relay == 0


def test_curl_http_1_0(mesh: HttpMesh, base: str) -> None:
    """Refused, as Envoy refuses it unless its connection manager says accept_http_10."""
    with carried(mesh) as exchanges:
        got = curl(mesh, "--http1.0", f"{base}/nginx/hello", f"{base}/nginx/hello")
    assert [status for _, status, _ in got] == [426, 426]
    assert exchanges.found.kernel == 0


@pytest.mark.parametrize("server", ECHOING)
@pytest.mark.parametrize(
    ("how", "is_kernels"),
    [
        (("--header", "Expect:"), True),
        ((), False),
        (("--header", "Transfer-Encoding: chunked"), False),
        (("--header", "Transfer-Encoding: chunked", "--header", "Expect: 100-continue"), False),
    ],
    ids=["plain", "expecting, as curl does", "chunked", "chunked and expecting"],
)
@pytest.mark.parametrize("length", [3, 60_000])
def test_curl_uploads(
    mesh: HttpMesh, base: str, tmp_path: Path, server: str, how: tuple[str, ...], is_kernels: bool, length: int
) -> None:
    body = "0123456789" * (length // 10) + "x" * (length % 10)
    file = tmp_path / "body"
    file.write_text(body)
    with carried(mesh, 2) as exchanges:
        got = curl(mesh, *how, "--upload-file", str(file), f"{base}/{server}/echo", "--next", "--silent",
                   "--write-out", SHOW, f"{base}/nginx/hello")  # fmt: skip
    assert [(text, status) for text, status, _ in got] == [(body, 200), ("nginx", 200)]
    assert exchanges.found.kernel == 1 + is_kernels


@pytest.mark.parametrize("server", ECHOING)
@pytest.mark.parametrize("how", [(), ("--header", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
def test_curl_uploads_much(mesh: HttpMesh, base: str, tmp_path: Path, server: str, how: tuple[str, ...]) -> None:
    """curl asks whether it may: above 1 MB it says Expect."""
    file, answer = tmp_path / "body", tmp_path / "answer"
    file.write_bytes(bytes(range(256)) * 20_000)
    with carried(mesh, 1):
        ((_, status, _),) = curl(mesh, *how, "-o", str(answer), "-T", str(file), f"{base}/{server}/echo")
    assert status == 200
    assert answer.read_bytes() == file.read_bytes()


def test_curl_downloads_much(mesh: HttpMesh, base: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    with carried(mesh, 1):
        ((_, status, _),) = curl(mesh, "-o", str(answer), f"{base}/nginx/big")
    assert status == 200
    assert answer.read_bytes() == bytes(range(250)) * (BIG_BYTES // 250)


def test_curl_head(mesh: HttpMesh, base: str) -> None:
    with carried(mesh, len(SERVERS)) as exchanges:
        out = mesh.sandbox.run(["curl", "-sI", *(f"{base}/{server}/hello" for server in SERVERS)])
    assert re.findall(r"(?im)^x-server: (.*)$", out) == list(SERVERS)
    assert exchanges.found.relay == 0


# Load

CONNECTIONS = 8


def test_wrk(mesh: HttpMesh, base: str) -> None:
    with carried(mesh) as exchanges:
        out = mesh.sandbox.run(["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", f"{base}/nginx/hello"])
    assert "Socket errors" not in out
    assert "Non-2xx" not in out
    (count,) = re.findall(r"(\d+) requests in", out)
    assert int(count) <= exchanges.found.total <= int(count) + CONNECTIONS
    # the first of each where the pool was empty, and some of those behind nginx's end of a connection, each 1,000th
    assert exchanges.found.relay <= 2 * CONNECTIONS + int(count) // 1000


def test_h2load_with_http_1(mesh: HttpMesh, base: str) -> None:
    with carried(mesh, 4000) as exchanges:
        out = mesh.sandbox.run(["h2load", "--h1", "-n4000", f"-c{CONNECTIONS}", f"{base}/nginx/hello"])
    assert "requests: 4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "status codes: 4000 2xx, 0 3xx, 0 4xx, 0 5xx" in out
    assert exchanges.found.relay <= CONNECTIONS


@pytest.mark.parametrize("how", [("-k",), ()], ids=["keep-alive", "close"])
def test_ab(mesh: HttpMesh, base: str, how: tuple[str, ...]) -> None:
    """It speaks HTTP/1.0 only, and without -k it reads to the end: each request is refused, none hangs."""
    with carried(mesh) as exchanges:
        out = mesh.sandbox.run(["ab", "-q", *how, "-n200", f"-c{CONNECTIONS}", f"{base}/nginx/hello"])
    assert re.search(r"Complete requests: +200\n", out), out
    assert re.search(r"Non-2xx responses: +200\n", out), out
    assert exchanges.found.kernel == 0


@pytest.mark.parametrize("how", [(), ("-disable-keepalive",)], ids=["keep-alive", "close"])
def test_hey(mesh: HttpMesh, base: str, how: tuple[str, ...]) -> None:
    """Go's client."""
    with carried(mesh, 400) as exchanges:
        out = mesh.sandbox.run(["hey", "-n", "400", "-c", str(CONNECTIONS), *how, f"{base}/node/hello"])
    assert re.search(r"\[200\]\t400 responses", out), out
    assert "Error distribution" not in out
    if not how:
        assert exchanges.found.relay <= CONNECTIONS
