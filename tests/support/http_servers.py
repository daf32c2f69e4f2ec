"""Real servers, each a process of its own on 127.0.0.1, that say their name in x-server.

`/.../hello` answers with the name, `/.../echo` with the request's body, both with Content-Length; `/.../chunked` with
both, in chunks. nginx has no echo, but /nginx/big, of BIG_BYTES, from a file.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.envoy import Envoy, run_envoy
from tests.support.resources import endpoint, filter_chain, http_manager, socket_address, static_cluster
from tests.support.sandbox import Sandbox

__all__ = ["BIG_BYTES", "SERVERS", "http_servers"]

SERVERS = ("nginx", "uvicorn", "node", "envoy")
"""All; Envoy stands before Node."""
BIG_BYTES = 30_000_000
_HERE = Path(__file__).parent
_READY_S = 20.0
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    client_max_body_size 0;
    keepalive_requests 10000000;
    sendfile on;
    server {{
        listen 127.0.0.1:{port} reuseport;
        add_header x-server nginx always;
        location / {{ return 200 nginx; }}
        location /nginx/big {{ alias {folder}/big; }}
    }}
}}
"""


@contextmanager
def http_servers(sandbox: Sandbox) -> Iterator[Mapping[str, tuple[str, int]]]:
    """The address of each of SERVERS."""
    with ExitStack() as stack:
        addresses = {name: ("127.0.0.1", _free_port()) for name in ("nginx", "uvicorn", "node")}
        for name, command in _commands(sandbox.folder, {name: port for name, (_, port) in addresses.items()}).items():
            stack.enter_context(_running(sandbox, name, command, addresses[name]))
        envoy = stack.enter_context(run_envoy(_bootstrap(addresses["node"]), _spawner(sandbox)))
        yield {**addresses, "envoy": ("127.0.0.1", _listener_port(envoy))}


def _commands(folder: Path, ports: Mapping[str, int]) -> dict[str, list[str | Path]]:
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=ports["nginx"]))
    (folder / "big").write_bytes(bytes(range(250)) * (BIG_BYTES // 250))
    uvicorn = [sys.executable, "-m", "uvicorn", "tests.support.http_asgi:application", "--log-level", "warning"]
    uvicorn += ["--host", "127.0.0.1", "--port", str(ports["uvicorn"]), "--timeout-keep-alive", "60"]
    return {
        "nginx": ["nginx", "-p", folder, "-c", config],
        "uvicorn": [*uvicorn],
        "node": ["node", _HERE / "http_server.js", "node", str(ports["node"])],
    }


@contextmanager
def _running(
    sandbox: Sandbox, name: str, command: list[str | Path], address: tuple[str, int]
) -> Iterator[subprocess.Popen[str]]:
    process = sandbox.spawn(command, env={"KMESH_SERVER": name})
    try:
        _wait_for_port(process, name, address)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _wait_for_port(process: subprocess.Popen[str], name: str, address: tuple[str, int]) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        assert process.poll() is None, f"{name} ended with {process.returncode}"
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{name} does not listen on {address}"
            time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _spawner(sandbox: Sandbox) -> Callable[..., subprocess.Popen[Any]]:
    def spawn(command: list[str | Path], **more: Any) -> subprocess.Popen[Any]:
        return sandbox.spawn(command, **more)

    return spawn


def _bootstrap(node: tuple[str, int]) -> dict[str, Any]:
    """Envoy before Node; it takes the length of an answer from there."""
    named = {"header": {"key": "x-server", "value": "envoy"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    action = {"cluster": "node", "timeout": "0s"}
    route = {"match": {"prefix": "/"}, "route": action, "response_headers_to_add": [named]}
    front = {
        "name": "front",
        "address": socket_address("127.0.0.1", 0),
        "filter_chains": [filter_chain(http_manager([route], http_protocol_options={"accept_http_10": True}))],
    }
    return {"static_resources": {"listeners": [front], "clusters": [static_cluster(endpoint(*node), name="node")]}}


def _listener_port(envoy: Envoy) -> int:
    """Where the only listener is bound."""
    (line,) = envoy.get("/listeners").splitlines()
    return int(line.rpartition(":")[2])
