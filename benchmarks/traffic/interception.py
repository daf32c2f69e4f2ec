"""How Istio brings a pod's traffic to its sidecar: REDIRECT of everything out and in, except the sidecar's own.

The sidecar is known by its group, as in Istio's rules.
"""

from __future__ import annotations

import socket

from pyroute2 import NetNS

from benchmarks.traffic.resources import INBOUND_PORT, OUTBOUND_PORT
from tests.support.pods import inside
from tests.support.sandbox import Sandbox

__all__ = ["SIDECAR_GROUP", "intercept"]

SIDECAR_GROUP = 1337
_RULES = f"""
table ip istio {{
	chain output {{
		type nat hook output priority -100; policy accept;
		meta skgid {SIDECAR_GROUP} return
		ip daddr 127.0.0.0/8 return
		meta l4proto tcp redirect to :{OUTBOUND_PORT}
	}}
	chain prerouting {{
		type nat hook prerouting priority -100; policy accept;
		iifname "lo" return
		meta l4proto tcp redirect to :{INBOUND_PORT}
	}}
}}
"""


def intercept(sandbox: Sandbox, pod: str) -> None:
    """From now on, until the pod is gone. The pod gets a default route, without which no connect() to a service
    address would come as far as the rules."""
    rules = sandbox.folder / f"{pod}.nft"
    rules.write_text(_RULES)
    sandbox.run([*inside(sandbox, pod), "nft", "--file", rules], enrolled=False)
    with NetNS(f"{sandbox.instance}-{pod}") as namespace:
        eth0 = namespace.link_lookup(ifname="eth0")[0]
        namespace.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=eth0, scope="link")
