"""Pods: network namespaces on one layer 2 segment, each with one address and no route to anywhere else.

A name is the sandbox's instance, a dash and the pod's; the sandbox's janitor removes what has such a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pyroute2 import NetNS, netns

from tests.support.sandbox import Sandbox

__all__ = ["inside", "pods"]

_SEGMENT = "net"


@contextmanager
def pods(sandbox: Sandbox, **addresses: str) -> Iterator[None]:
    """A namespace for each name, with its address ("10.244.0.2/24") on eth0."""
    with ExitStack() as stack:
        segment = stack.enter_context(_namespace(sandbox, _SEGMENT))
        segment.link("add", ifname="br0", kind="bridge")
        bridge = segment.link_lookup(ifname="br0")[0]
        segment.link("set", index=bridge, state="up")
        for name, address in addresses.items():
            pod = stack.enter_context(_namespace(sandbox, name))
            _plug(segment, bridge, pod, _full(sandbox, name), port=name, address=address)
        yield


def inside(sandbox: Sandbox, name: str) -> list[str]:
    """The command that runs another in a pod."""
    return ["nsenter", f"--net=/run/netns/{_full(sandbox, name)}"]


def _plug(segment: NetNS, bridge: int, pod: NetNS, pod_namespace: str, *, port: str, address: str) -> None:
    """Join a pod to the segment by a pair of virtual interfaces."""
    segment.link("add", ifname=port, kind="veth", peer={"ifname": "eth0", "net_ns_fd": pod_namespace})
    index = segment.link_lookup(ifname=port)[0]
    segment.link("set", index=index, master=bridge, state="up")
    ip, _, bits = address.partition("/")
    eth0 = pod.link_lookup(ifname="eth0")[0]
    pod.addr("add", index=eth0, address=ip, prefixlen=int(bits))
    for name in ("lo", "eth0"):
        pod.link("set", index=pod.link_lookup(ifname=name)[0], state="up")


@contextmanager
def _namespace(sandbox: Sandbox, name: str) -> Iterator[NetNS]:
    full = _full(sandbox, name)
    netns.create(full)
    try:
        with NetNS(full) as namespace:
            yield namespace
    finally:
        netns.remove(full)


def _full(sandbox: Sandbox, name: str) -> str:
    return f"{sandbox.instance}-{name}"
