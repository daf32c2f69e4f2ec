"""TCP and UDP proxies become the clusters they lead to; filters that cannot be honoured become refusals.

    tcp_proxy a 9, b 1
 -> weighted
      9: cluster a
      1: cluster b
"""

from __future__ import annotations

from kmesh.compiler.ir import Choice, Filtered, ListenerUnit, Program, Refuse, Share, ToCluster, weigh
from kmesh.compiler.report import Report, has_refused, report_limitations
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.model.cluster import LbPolicy
from kmesh.model.limitation import Effect
from kmesh.model.listener import FilterChain, TcpProxy, UdpProxy, UnsupportedNetworkFilter
from kmesh.records.constants import Reason

__all__ = ["lower_proxies"]


def lower_proxies(program: Program) -> Program:
    return rewrite_listeners(program, _lower)


def _lower(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    if not isinstance(choice, Filtered):
        return choice
    chain = choice.chain
    limitations = chain.limitations + chain.network.limitations
    found += report_limitations("listener", unit.name, limitations)
    if has_refused(limitations):
        return Refuse(Reason.UNSUPPORTED)
    match chain.network:
        case TcpProxy() as proxy:
            return _lower_tcp(unit, chain, proxy, found)
        case UdpProxy(cluster=name):
            return ToCluster(name)
        case UnsupportedNetworkFilter():
            return Refuse(Reason.UNSUPPORTED)
        case _:
            return choice


def _lower_tcp(unit: ListenerUnit, chain: FilterChain, proxy: TcpProxy, found: list[Report]) -> Choice:
    if not proxy.clusters:
        return Refuse(Reason.NO_ROUTE)
    hashed = [w.name for w in proxy.clusters if proxy.has_source_ip_hash and _is_hashing(unit, w.name)]
    if hashed:
        found.append(
            Report(
                kind="listener",
                name=unit.name,
                feature="tcp_proxy.hash_policy",
                path=f"filter chain {chain.name!r}" if chain.name else "",
                effect=Effect.REFUSED,
                consequence=f"choosing an endpoint of cluster {hashed[0]!r} by source address is not possible yet: "
                "the chain's connections are refused",
            )
        )
        return Refuse(Reason.UNSUPPORTED)
    return weigh(tuple(Share(weighted.weight, ToCluster(weighted.name)) for weighted in proxy.clusters))


def _is_hashing(unit: ListenerUnit, name: str) -> bool:
    cluster = unit.clusters.get(name)
    return cluster is not None and cluster.lb_policy in (LbPolicy.RING_HASH, LbPolicy.MAGLEV)
