"""Defaults taken from the machine."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address

from kmesh.bridge.host import default_node_id, find_own_address


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
