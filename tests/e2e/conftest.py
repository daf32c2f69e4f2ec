"""The product as a user runs it: the bridge as a process of its own, the real kernel, real servers and clients.

One sandbox serves all tests of this folder, so that the programs are compiled once; bridges come one after another.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address, name_servers
from tests.support.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    with LoopThread() as loop:
        yield loop


@pytest.fixture(scope="session")
def servers(sandbox: Sandbox) -> Iterator[dict[str, Address]]:
    """Name servers a to h on 127.0.0.x, and six on ::1."""
    names = [f"{name}=127.0.0.{number}" for number, name in enumerate("abcdefgh", 2)]
    with name_servers(sandbox, *names, "six=::1") as addresses:
        yield addresses


@pytest.fixture(scope="session")
def client(sandbox: Sandbox) -> Iterator[Client]:
    """In the enrolled cgroup."""
    with Client(sandbox) as client:
        yield client


@pytest.fixture(scope="module")
def control_plane(loop: LoopThread) -> Iterator[ControlPlane]:
    with ControlPlane(loop) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def bridge(sandbox: Sandbox, control_plane: ControlPlane) -> Iterator[Bridge]:
    """Takes its configuration from `control_plane`; publish, then wait_until_serves."""
    control_plane.publish()
    with Bridge(sandbox, "--xds-server", control_plane.address) as bridge:
        yield bridge
