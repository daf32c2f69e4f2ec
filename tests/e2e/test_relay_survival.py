"""Requests routed one by one outlive the processes that serve them: kill -9 under load loses nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bridge import Bridge
from tests.support.control_plane import ControlPlane
from tests.support.envoy import wait_until
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address
from tests.support.sandbox import Sandbox
from tests.support.services import ADS, assignment, captured, eds_cluster, http_to, locality, member, parse

VIP = ("127.96.0.9", 80)
SERVER = ("127.0.0.9", 8099)
QUICK_SERVER = ("127.0.0.9", 8098)
_NGINX = """
daemon off; master_process off; pid {folder}/survival.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
	access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/survival-body;
	server {{ listen {address}:{port}; location / {{ return 200 quick; }} }}
}}
"""
LOAD_S = 7
BYTES = 60_000_000
"""Of a slow body."""


@contextmanager
def run(sandbox: Sandbox, command: Sequence[str | os.PathLike[str]], address: Address) -> Iterator[None]:
    process = sandbox.spawn(command)
    try:
        wait_until(lambda: is_listening(address), 10, f"a server at {address}")
        yield
    finally:
        process.kill()
        process.wait()


def is_listening(address: Address) -> bool:
    wanted = "{3:02X}{2:02X}{1:02X}{0:02X}:{4:04X}".format(*map(int, address[0].split(".")), address[1])
    return any(row.split()[1] == wanted for row in Path("/proc/net/tcp").read_text().splitlines())


@pytest.fixture(scope="module")
def quick_and_slow(sandbox: Sandbox) -> Iterator[None]:
    config = sandbox.folder / "survival.conf"
    config.write_text(_NGINX.format(folder=sandbox.folder, address=QUICK_SERVER[0], port=QUICK_SERVER[1]))
    slow = [sys.executable, "-m", "tests.support.numbered_bytes", "serve", SERVER[0], str(SERVER[1])]
    with run(sandbox, slow, SERVER), run(sandbox, ["nginx", "-p", sandbox.folder, "-c", config], QUICK_SERVER):
        yield


@pytest.fixture
def bridge(sandbox: Sandbox, loop: LoopThread, quick_and_slow: None) -> Iterator[Bridge]:
    del quick_and_slow
    routes = [
        {"match": {"path": "/"}, "route": {"cluster": "quick", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "slow", "timeout": "0s"}},
    ]
    rds = {"route_config_name": "shop", "config_source": ADS}
    resources = [
        *(eds_cluster(name) for name in ("quick", "slow")),
        assignment("quick", locality(member(QUICK_SERVER))),
        assignment("slow", locality(member(SERVER))),
        captured("shop", VIP, http_to(rds=rds)),
        parse("RDS", {"name": "shop", "virtual_hosts": [{"name": "v", "domains": [VIP[0]], "routes": routes}]}),
    ]
    with ControlPlane(loop) as control_plane:
        marker = control_plane.publish(*resources)
        with Bridge(sandbox, "--xds-server", control_plane.address) as bridge:
            bridge.wait_until_serves(marker)
            yield bridge


class Load:
    """wrk on the kernel's path, and slow bodies on the relay's, each way and of each framing."""

    def __init__(self, sandbox: Sandbox) -> None:
        url = f"http://{VIP[0]}"
        wrk = ["wrk", "--threads", "1", "--connections", "8", "--timeout", "8s"]
        wrk += ["--duration", f"{LOAD_S}s", f"{url}/"]
        numbered = [sys.executable, "-m", "tests.support.numbered_bytes"]
        slow = [
            [*numbered, method, f"{url}{path}", str(BYTES), str(LOAD_S - 1)]
            for method, path in (("GET", f"/length/{BYTES}"), ("GET", f"/chunked/{BYTES}"), ("POST", "/up"))
        ]
        self._wrk, *self._slow = (
            sandbox.spawn(command, enrolled=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for command in (wrk, *slow)
        )

    def finish(self) -> list[str]:
        """What came of each; of wrk how many failed."""
        out = self._wrk.communicate(timeout=4 * LOAD_S)[0]
        failed = re.findall(r"Socket errors: .*|Non-2xx.*", out)
        assert re.search(r"[1-9]\d* requests in", out), out
        return ["; ".join(failed), *(slow.communicate(timeout=4 * LOAD_S)[0].strip() for slow in self._slow)]


ALL_RIGHT = ["", "right", "right", "right"]


def relay_pid(bridge: Bridge) -> int:
    return int(bridge.status()["relay"]["pid"])


def kill_relay(bridge: Bridge) -> None:
    before = relay_pid(bridge)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: relay_pid(bridge) not in (0, before), 5, "a successor of the relay")


def kill_bridge(bridge: Bridge) -> None:
    bridge.kill()
    bridge.start()


def kill_in_turn(bridge: Bridge) -> None:
    kill_relay(bridge)
    kill_bridge(bridge)
    kill_relay(bridge)


def kill_both_at_once(bridge: Bridge) -> None:
    pid = relay_pid(bridge)
    bridge.process.kill()
    os.kill(pid, signal.SIGKILL)
    bridge.kill()
    time.sleep(0.3)
    bridge.start()


@pytest.mark.parametrize("kill", [kill_relay, kill_bridge, kill_in_turn, kill_both_at_once])
def test_kill_9_loses_nothing(bridge: Bridge, kill) -> None:
    load = Load(bridge.sandbox)
    for _ in range(2):
        time.sleep(1)
        kill(bridge)
    assert load.finish() == ALL_RIGHT, bridge.log.read_text()
