"""Defaults taken from the machine."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from kmesh.bridge.host import default_node_id, find_cgroup2_root, find_own_address


def test_node_id_has_the_four_parts_that_istiod_wants() -> None:
    kind, ip, name, domain = default_node_id({}).split("~")
    assert kind == "sidecar"
    assert str(ip_address(ip)) == ip
    assert re.fullmatch(r"[a-z0-9-]+\.default", name)
    assert domain == "default.svc.cluster.local"


def test_node_id_of_a_pod() -> None:
    env = {"INSTANCE_IP": "10.1.2.3", "POD_NAME": "kmesh-x7", "POD_NAMESPACE": "mesh"}
    assert default_node_id(env) == "sidecar~10.1.2.3~kmesh-x7.mesh~mesh.svc.cluster.local"


def test_own_address_is_one_that_this_host_can_bind() -> None:
    got = find_own_address()
    with socket.socket(socket.AF_INET6 if ":" in got else socket.AF_INET) as s:
        s.bind((got, 0))


@pytest.mark.parametrize(
    ("mounts", "want"),
    [
        pytest.param("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", Path("/sys/fs/cgroup"), id="unified"),
        pytest.param(
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            Path("/sys/fs/cgroup/unified"),
            id="hybrid",
        ),
        pytest.param("none /mnt/my\\040cgroups cgroup2 rw 0 0\n", Path("/mnt/my cgroups"), id="escaped"),
        pytest.param("cgroup2 /tmp/x tmpfs rw 0 0\n", None, id="none: the first column is only a label"),
        pytest.param("", None, id="empty"),
    ],
)
def test_cgroup2_root(mounts: str, want: Path | None) -> None:
    assert find_cgroup2_root(mounts) == want
