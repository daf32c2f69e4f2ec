"""Where traffic runs: for each scenario a client pod and a server pod of its own, all on one node.

All pods are up for the whole run, so that scenarios can take turns; whatever idles costs next to nothing. No packet
leaves the pods' network. Every server pod runs the same servers:

    HTTP      nginx: "/" answers 200 with a few bytes, "/stream" has STREAM_BYTES (a sparse file)
    ECHO      sends back what it gets
    UPLOAD    HTTP, answers 200 once it has read the whole body
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tests.support.envoy import wait_until
from tests.support.pods import inside, pods
from tests.support.sandbox import Sandbox

__all__ = ["ECHO", "HTTP", "PORTS", "STREAM_BYTES", "UPLOAD", "Lane", "run_lanes"]

HTTP, ECHO, UPLOAD = 8080, 8081, 8082
PORTS = (HTTP, ECHO, UPLOAD)
"""Of every server, and of its service address."""
STREAM_BYTES = 300 * 1000 * 1000

_FIRST_POD = IPv4Address("10.244.0.2")
_FIRST_SERVICE = IPv4Address("10.96.0.1")
_READY_S = 10.0
_TCP_LISTEN = "0A"
_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root; worker_processes auto;
events {{ worker_connections 4096; }}
http {{
	access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
	keepalive_timeout 600; keepalive_requests 1000000000;
	client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
	scgi_temp_path {folder};
	server {{
		listen {address}:{port} backlog=4096 reuseport;
		location = / {{ default_type text/plain; return 200 "here is the answer\\n"; }}
		location = /stream {{ alias {stream}; }}
	}}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What one scenario has to itself."""

    sandbox: Sandbox
    name: str
    """Of the scenario."""
    number: int
    server: str
    """IP address of the server pod."""
    service: str
    """IP address of the service whose one endpoint is the server pod; nothing in the network knows it."""

    @property
    def client_pod(self) -> str:
        return f"client{self.number}"

    @property
    def server_pod(self) -> str:
        return f"server{self.number}"

    @property
    def in_client(self) -> list[str]:
        """The command that runs another in the client pod."""
        return inside(self.sandbox, self.client_pod)

    @property
    def in_server(self) -> list[str]:
        return inside(self.sandbox, self.server_pod)


@contextmanager
def run_lanes(sandbox: Sandbox, names: Sequence[str]) -> Iterator[dict[str, Lane]]:
    """One for each name, its servers up."""
    lanes = {
        name: Lane(
            sandbox=sandbox,
            name=name,
            number=i,
            server=str(_FIRST_POD + 2 * i + 1),
            service=str(_FIRST_SERVICE + i),
        )
        for i, name in enumerate(names)
    }
    addresses = {lane.client_pod: f"{_FIRST_POD + 2 * lane.number}/16" for lane in lanes.values()}
    addresses |= {lane.server_pod: f"{lane.server}/16" for lane in lanes.values()}
    stream = sandbox.folder / "stream"
    with stream.open("wb") as file:
        file.truncate(STREAM_BYTES)
    with ExitStack() as stack:
        stack.enter_context(pods(sandbox, **addresses))
        for lane in lanes.values():
            stack.enter_context(_serve(lane, stream))
        yield lanes


@contextmanager
def _serve(lane: Lane, stream: Path) -> Iterator[None]:
    folder = lane.sandbox.folder / f"nginx-{lane.name}"
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, address=lane.server, port=HTTP, stream=stream))
    commands: list[list[str | Path]] = [
        ["nginx", "-p", folder, "-e", folder / "error.log", "-c", config],
        [sys.executable, "-m", "benchmarks.traffic.servers", lane.server, str(ECHO), str(UPLOAD)],
    ]
    processes = [lane.sandbox.spawn([*lane.in_server, *command]) for command in commands]
    try:
        wait_until(lambda: _listening(processes[0].pid) >= set(PORTS), _READY_S, f"the servers of {lane.name}")
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(_READY_S)


def _listening(pid: int) -> set[int]:
    """TCP ports that are listened on in the network namespace of a process. Source: proc_net_tcp.rst."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(local.rpartition(":")[2], 16) for _, local, _, state, *_ in rows if state == _TCP_LISTEN}
