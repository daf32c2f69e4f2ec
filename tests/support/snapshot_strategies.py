"""Random small snapshots for hypothesis, dense in the cases that matter: few names and addresses, all features."""

from __future__ import annotations

from hypothesis import strategies as st

from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, LbPolicy, TransportMatch, UpstreamHttp
from kmesh.model.endpoint import ClusterLoadAssignment, DropOverload, Endpoint, Health, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import (
    Direction,
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Listener,
    NetworkFilter,
    TcpProxy,
    UnsupportedNetworkFilter,
    WeightedCluster,
)
from kmesh.model.match import PathMatch, RouteMatch
from kmesh.model.route import ClusterAction, Redirect, Route, RouteConfiguration, VirtualHost
from kmesh.model.snapshot import Snapshot

__all__ = ["DESTINATIONS", "assignments", "cluster_snapshots", "listener_snapshots"]

CLUSTERS = ("a", "b", "c")
ROUTES = ("r", "s")
NARROW = RouteMatch(path=PathMatch(text="/narrow"))
_HOSTS = ("10.96.0.1", "10.96.0.2", "2001:db8::1")
_PORTS = (80, 81)
_SERVICES = [SocketAddress.parse(host, port) for host in _HOSTS for port in _PORTS]
_WILDCARDS = [SocketAddress.parse(host, port) for host in ("0.0.0.0", "::") for port in (*_PORTS, 15001)]
_ELSEWHERE = [SocketAddress.parse(host, port) for host in ("10.96.9.9", "2001:db8::9") for port in (80, 15001, 9)]
DESTINATIONS = [*_SERVICES, *_ELSEWHERE]
_SMALL = st.integers(1, 5)


_LIMITED = st.sampled_from([Effect.REFUSED, Effect.UNENFORCED, Effect.APPROXIMATED]).map(
    lambda effect: (Limitation(feature="feature", path="path", effect=effect),)
)
_LIMITATIONS = st.integers(0, 19).flatmap(lambda number: _LIMITED if number == 19 else st.just(()))

_NETWORKS_OF_ENDPOINTS = st.sampled_from(["10.0.0.", "fd00::"])
_WEIGHTS = st.sampled_from([1, 1, 1, 2, 3, 4, 5, 2**32 - 1])
_HEALTHS = st.sampled_from([Health.HEALTHY, Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY, Health.DRAINING])
_TRANSPORTS = st.sampled_from([()] * 15 + [(("tlsMode", "istio"),)])
_ENDPOINTS = st.lists(st.tuples(_NETWORKS_OF_ENDPOINTS, _WEIGHTS, _HEALTHS, _TRANSPORTS), max_size=4)
_LOCALITY_WEIGHTS = st.one_of(st.none(), _SMALL)
_DROPS = st.lists(st.sampled_from([0, 1, 250_000, 1_000_000]), max_size=2)
_GROUPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), _ENDPOINTS, _LOCALITY_WEIGHTS), max_size=4)


@st.composite
def assignments(draw: st.DrawFn, name: str) -> ClusterLoadAssignment:
    """At most 3 priorities of 2 localities, endpoints of distinct addresses."""
    groups: dict[tuple[int, int], LocalityEndpoints] = {}
    number = 0
    for priority, zone, rows, weight in draw(_GROUPS):
        endpoints = []
        for network, endpoint_weight, health, transport in rows:
            number += 1
            address = SocketAddress.parse(f"{network}{number}", 8080)
            endpoints.append(Endpoint(address, endpoint_weight, health, (), transport))
        groups[priority, zone] = LocalityEndpoints(
            locality=Locality("region", str(zone)), endpoints=tuple(endpoints), priority=priority, weight=weight
        )
    drops = draw(_DROPS) if draw(st.booleans()) else []
    return ClusterLoadAssignment(
        name=name,
        localities=tuple(groups.values()),
        overprovisioning_factor=draw(st.sampled_from([140, 140, 100, 50])),
        weighted_priority_health=draw(st.booleans()),
        drops=tuple(DropOverload(category="x", per_million=ppm) for ppm in drops),
        limitations=draw(_LIMITATIONS),
    )


def _clusters(name: str) -> st.SearchStrategy[Cluster]:
    istio = (
        TransportMatch(match=(("tlsMode", "istio"),), is_plaintext=False, transport="tls"),
        TransportMatch(match=(), is_plaintext=True, transport="raw_buffer"),
    )
    return st.builds(
        Cluster,
        name=st.just(name),
        discovery=st.sampled_from([Discovery.EDS] * 4 + [Discovery.STATIC, Discovery.ORIGINAL_DST]),
        lb_policy=st.sampled_from([LbPolicy.ROUND_ROBIN, LbPolicy.LEAST_REQUEST, LbPolicy.RANDOM, LbPolicy.MAGLEV]),
        is_locality_weighted=st.booleans(),
        panic_threshold_percent=st.sampled_from([0.0, 0.0, 50.0, 33.7, 100.0]),
        upstream_http=st.sampled_from([UpstreamHttp.HTTP1, UpstreamHttp.HTTP2, UpstreamHttp.DOWNSTREAM]),
        transports=st.sampled_from([(), istio]),
        limitations=_LIMITATIONS,
    )


def _route_configs(name: str) -> st.SearchStrategy[RouteConfiguration]:
    to_cluster = st.builds(ClusterAction, cluster=st.sampled_from(("a", "a", "b")))
    actions = st.one_of(to_cluster, to_cluster, st.just(Redirect()))
    matches = st.sampled_from([RouteMatch(), NARROW])
    routes = st.lists(st.builds(Route, match=matches, action=actions), max_size=3).map(tuple)
    hosts = st.builds(
        VirtualHost, name=st.just("host"), domains=st.sampled_from([("*",), ("x", "*"), ("x",)]), routes=routes
    )
    return st.builds(RouteConfiguration, name=st.just(name), virtual_hosts=st.lists(hosts, max_size=2).map(tuple))


def _networks() -> st.SearchStrategy[NetworkFilter]:
    one = st.builds(WeightedCluster, st.sampled_from(("a", "a", "b", "c")), st.just(1)).map(lambda w: (w,))
    several = st.just((WeightedCluster("a", 2**32 - 1), WeightedCluster("b", 1), WeightedCluster("c", 5)))
    tcp = st.builds(TcpProxy, clusters=st.one_of(one, one, one, several), limitations=_LIMITATIONS)
    http = st.builds(HttpConnectionManager, rds_name=st.sampled_from((*ROUTES, "missing")))
    unsupported = st.just(
        UnsupportedNetworkFilter(limitations=(Limitation(feature="redis", path="", effect=Effect.REFUSED),))
    )
    return st.one_of(tcp, tcp, tcp, http, http, unsupported)


def _matches() -> st.SearchStrategy[FilterChainMatch]:
    def host(address: SocketAddress) -> tuple[bytes, int]:
        return address.addr16, 128

    ranges = st.one_of(
        st.lists(st.sampled_from([host(a) for a in _SERVICES]), max_size=2).map(tuple),
        st.just(((SocketAddress.parse("10.96.0.0", 0).addr16, 96 + 16),)),
    )
    return st.builds(
        FilterChainMatch,
        destination_port=st.sampled_from([None, None, None, None, 80, 15001]),
        prefix_ranges=st.one_of(st.just(()), st.just(()), st.just(()), ranges),
        server_names=st.sampled_from([(), (), (), (), ("x",), ("x", "y")]),
        transport_protocol=st.sampled_from(["", "", "", "", "tls"]),
        application_protocols=st.sampled_from([(), (), (), (), ("h2",)]),
    )


def _listeners(name: str) -> st.SearchStrategy[Listener]:
    chain = st.builds(FilterChain, match=_matches(), network=_networks(), limitations=_LIMITATIONS)
    plain = st.builds(FilterChain, network=_networks())
    return st.builds(
        Listener,
        name=st.just(name),
        addresses=st.lists(st.sampled_from(_SERVICES * 2 + _WILDCARDS), min_size=1, max_size=2).map(tuple),
        protocol=st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.TCP, Protocol.UDP]),
        bind_to_port=st.sampled_from([True, False, False]),
        use_original_dst=st.sampled_from([False, False, False, True]),
        direction=st.sampled_from([Direction.OUTBOUND] * 7 + [Direction.INBOUND]),
        filter_chains=st.lists(chain, min_size=1, max_size=3, unique_by=lambda c: c.match).map(tuple),
        default_filter_chain=st.one_of(st.none(), plain),
        limitations=_LIMITATIONS,
    ).filter(lambda listener: not (listener.use_original_dst and listener.protocol is Protocol.UDP))


_WEIGHTED = st.lists(st.tuples(st.sampled_from(CLUSTERS), _SMALL), min_size=1, max_size=3)
_CLUSTERS = {name: _clusters(name) for name in CLUSTERS}
_ASSIGNMENTS = {name: assignments(name) for name in CLUSTERS}
_ROUTE_CONFIGS = {name: _route_configs(name) for name in ROUTES}
_LISTENERS = {name: _listeners(name) for name in ("l", "m", "n")}


@st.composite
def listener_snapshots(draw: st.DrawFn) -> Snapshot:
    """Any listeners and routes; clusters "a" and "b" with endpoints of their own, and no "c"."""
    clusters = {
        "a": Cluster(name="a", discovery=Discovery.STATIC),
        "b": Cluster(name="b", discovery=Discovery.STATIC, upstream_http=draw(st.sampled_from(UpstreamHttp))),
    }
    return Snapshot(
        listeners={name: draw(_LISTENERS[name]) for name in ("l", "m", "n")[: draw(st.integers(1, 3))]},
        route_configs={name: draw(_ROUTE_CONFIGS[name]) for name in ROUTES},
        clusters=clusters,
        assignments={
            name: _assignment(name, Endpoint(SocketAddress.parse(f"10.0.{number}.1", 80)))
            for number, name in enumerate(clusters)
        },
    )


@st.composite
def cluster_snapshots(draw: st.DrawFn) -> Snapshot:
    """One listener on the first of DESTINATIONS; any clusters behind it."""
    weighted = tuple(WeightedCluster(*pair) for pair in draw(_WEIGHTED))
    chain = FilterChain(network=TcpProxy(clusters=weighted))
    clusters = {name: draw(_CLUSTERS[name]) for name in CLUSTERS if draw(st.integers(0, 9))}
    return Snapshot(
        listeners={"l": Listener(name="l", addresses=(DESTINATIONS[0],), filter_chains=(chain,))},
        clusters=clusters,
        assignments={name: draw(_ASSIGNMENTS[name]) for name in clusters},
    )


def _assignment(name: str, *endpoints: Endpoint) -> ClusterLoadAssignment:
    return ClusterLoadAssignment(
        name=name, localities=(LocalityEndpoints(locality=Locality(), endpoints=endpoints),)
    )
