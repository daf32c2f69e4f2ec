"""The same clusters in Envoy and here, on one DNS server whose answers change: the same endpoints at each step."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.rcode

from kmesh.bridge.dns_clusters import DnsClusters
from kmesh.bridge.resolver import Resolver
from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, DnsFamily, DnsOptions
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Locality, LocalityEndpoints
from tests.support.dns import Reply, serve_dns
from tests.support.envoy import Envoy, run_envoy

REFRESH_S = 0.05
V4 = Reply(records=("10.0.0.2", "10.0.0.1"))
V6 = Reply(records=("2001:db8::2", "2001:db8::1"))
FAILS = Reply(rcode=dns.rcode.SERVFAIL)
NO_DATA = Reply()
GONE = Reply(rcode=dns.rcode.NXDOMAIN)

STEPS: list[tuple[str, Reply, Reply]] = [
    ("both families", V4, V6),
    ("both fail", FAILS, FAILS),
    ("IPv4 alone", V4, NO_DATA),
    ("IPv6 alone", NO_DATA, V6),
    ("one address, doubled", Reply(records=("10.0.0.3", "10.0.0.3")), GONE),
    ("IPv6 fails beside IPv4", V4, FAILS),
    ("no records", NO_DATA, NO_DATA),
    ("back", V4, V6),
    ("no such name", GONE, GONE),
    ("back again", V4, V6),
    ("no IPv4, IPv6 fails", NO_DATA, FAILS),
    ("all back", V4, V6),
    ("no IPv6, IPv4 fails", FAILS, NO_DATA),
]
"""(step, answer to A, answer to AAAA), one after the other."""


def make_cluster(discovery: Discovery, family: DnsFamily) -> Cluster:
    name = f"{discovery.value}-{family.value}"
    group = LocalityEndpoints(locality=Locality(), endpoints=(Endpoint(HostAddress("b.test", 80)),))
    return Cluster(
        name=name,
        discovery=discovery,
        assignment=ClusterLoadAssignment(name=name, localities=(group,)),
        dns=DnsOptions(refresh_rate_s=REFRESH_S, family=family),
    )


CLUSTERS = {
    cluster.name: cluster
    for discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
    for family in DnsFamily
    for cluster in [make_cluster(discovery, family)]
}


def bootstrap(dns_port: int) -> dict[str, object]:
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": dns_port}}],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "b.test", "port_value": 80}}}}
    clusters = [
        {
            "name": name,
            "type": cluster.discovery.value,
            "dns_lookup_family": cluster.dns.family.value,
            "dns_refresh_rate": f"{REFRESH_S}s",
            "typed_dns_resolver_config": resolver,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        for name, cluster in CLUSTERS.items()
    ]
    return {"static_resources": {"clusters": clusters}}


def own_endpoints(clusters: DnsClusters) -> dict[str, list[str]]:
    """As Envoy.endpoints gives them."""
    return {
        name: sorted(
            f"{e.address.ip}:{e.address.port}"
            for group in assignment.localities
            for e in group.endpoints
            if isinstance(e.address, SocketAddress)
        )
        for name, assignment in clusters.assignments.items()
    }


async def compare(clusters: DnsClusters, envoy: Envoy) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(own endpoints, Envoy's), once both had some refreshes since the answers changed; late ones are waited for."""
    for _ in range(20):
        await asyncio.sleep(6 * REFRESH_S)
        got, want = own_endpoints(clusters), await asyncio.to_thread(envoy.endpoints)
        if got == want:
            break
    return got, want


def test_the_same_endpoints_as_envoy(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve_dns() as server, asyncio.timeout(30):
            resolv_conf = server.write_resolv_conf(tmp_path / "resolv.conf")
            hosts = tmp_path / "hosts"
            resolver = Resolver(lambda sock: None, resolv_conf=resolv_conf, hosts=hosts, port=server.port)
            clusters = DnsClusters(resolver, lambda name, assignment: None, shortest_refresh_s=REFRESH_S)
            running = asyncio.create_task(clusters.run())
            clusters.watch(CLUSTERS)
            starting = run_envoy(bootstrap(server.port))
            envoy = await asyncio.to_thread(starting.__enter__)
            try:
                for step, v4, v6 in STEPS:
                    server.zone.update({("b.test.", "A"): v4, ("b.test.", "AAAA"): v6})
                    got, want = await compare(clusters, envoy)
                    assert got == want, step
            finally:
                await asyncio.to_thread(starting.__exit__, None, None, None)
                running.cancel()

    asyncio.run(main())
