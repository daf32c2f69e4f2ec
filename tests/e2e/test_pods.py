"""Pods as on a node: each in a network namespace of its own, service addresses without a route, one hop to a pod."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pyroute2 import netns

from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.envoy import wait_until
from tests.support.name_server import Address, name_servers
from tests.support.pods import inside, pods
from tests.support.sandbox import REPO, Sandbox
from tests.support.services import tcp_service, udp_service

SERVICE = ("10.96.0.1", 80)
PODS = {"client": "10.244.0.2/24", "one": "10.244.0.3/24", "two": "10.244.0.4/24"}


@pytest.fixture(scope="module")
def pod_servers(sandbox: Sandbox) -> Iterator[dict[str, Address]]:
    """One in each of the pods "one" and "two"."""
    with ExitStack() as stack:
        stack.enter_context(pods(sandbox, **PODS))
        addresses = {}
        for name in ("one", "two"):
            address = f"{name}={PODS[name].partition('/')[0]}"
            addresses |= stack.enter_context(name_servers(sandbox, address, prefix=inside(sandbox, name)))
        yield addresses


def test_a_pod_reaches_other_pods_by_a_service_address_without_a_route(
    bridge: Bridge, control_plane: ControlPlane, sandbox: Sandbox, pod_servers: dict[str, Address]
) -> None:
    marker = control_plane.publish(
        *tcp_service("shop", SERVICE, *pod_servers.values()), *udp_service("dns", SERVICE, pod_servers["two"])
    )
    bridge.wait_until_serves(marker)
    with Client(sandbox, prefix=inside(sandbox, "client")) as client:
        assert client.tally(SERVICE, 20) == {"one": 10, "two": 10}
        assert client.connect(SERVICE)[0].peer == "10.96.0.1 80"
        assert client.datagrams(SERVICE, 2, connected=False) == [("two", "10.96.0.1 80")] * 2
        number = client.open(SERVICE)
        bridge.kill()
        assert client.echo(number, "still here") == "still here"
        assert client.tally(SERVICE, 20) == {"one": 10, "two": 10}
        bridge.start()
    with Client(sandbox, prefix=inside(sandbox, "client"), enrolled=False) as outsider:
        assert outsider.answers(SERVICE) == ["ENETUNREACH"]


def test_namespaces_of_a_killed_run_are_removed() -> None:
    code = (
        "from tests.support.sandbox import Sandbox; from tests.support.pods import pods; import os, signal\n"
        "with Sandbox() as sandbox, pods(sandbox, a='10.244.0.2/24'):\n"
        "    print(sandbox.instance, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=30)
    instance = killed.stdout.strip()
    assert instance, killed.stderr
    wait_until(lambda: not any(name.startswith(f"{instance}-") for name in netns.listnetns()), 10, "the janitor")
