"""Warming, step by step and in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Locality, LocalityEndpoints
from kmesh.model.listener import FilterChain, HttpConnectionManager, Listener, TcpProxy, UdpProxy, WeightedCluster
from kmesh.model.references import clusters_of_listener, clusters_of_routes, route_configs_of
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost, WeightedClusters
from kmesh.model.snapshot import Snapshot
from kmesh.model.warming import Assembler


def assignment(name: str, ip: str = "10.0.0.1") -> ClusterLoadAssignment:
    endpoints = (Endpoint(SocketAddress.parse(ip, 80)),)
    return ClusterLoadAssignment(name=name, localities=(LocalityEndpoints(locality=Locality(), endpoints=endpoints),))


def eds(name: str, service: str = "") -> Cluster:
    return Cluster(name=name, discovery=Discovery.EDS, eds_service_name=service or name)


def static(name: str) -> Cluster:
    return Cluster(name=name, discovery=Discovery.STATIC, assignment=assignment(name))


def dns(name: str) -> Cluster:
    hosts = (LocalityEndpoints(locality=Locality(), endpoints=(Endpoint(HostAddress(f"{name}.test", 80)),)),)
    return Cluster(
        name=name, discovery=Discovery.STRICT_DNS, assignment=ClusterLoadAssignment(name=name, localities=hosts)
    )


def tcp(name: str, *clusters: str) -> Listener:
    proxy = TcpProxy(clusters=tuple(WeightedCluster(cluster, 1) for cluster in clusters))
    return Listener(name=name, addresses=(), filter_chains=(FilterChain(network=proxy),))


def http(name: str, rds_name: str) -> Listener:
    manager = HttpConnectionManager(rds_name=rds_name)
    return Listener(name=name, addresses=(), filter_chains=(FilterChain(network=manager),))


def routes(name: str, *clusters: str) -> RouteConfiguration:
    table = tuple(Route(action=ClusterAction(cluster=cluster)) for cluster in clusters)
    return RouteConfiguration(name=name, virtual_hosts=(VirtualHost(name="v", domains=("*",), routes=table),))


def of(*resources: Cluster | Listener | RouteConfiguration | ClusterLoadAssignment) -> dict[str, object]:
    return {resource.name: resource for resource in resources}


@pytest.fixture
def mesh() -> Assembler:
    return Assembler()


def test_starts_with_nothing(mesh: Assembler) -> None:
    assert mesh.snapshot() == Snapshot()
    assert mesh.wanted_assignments == mesh.wanted_route_configs == frozenset()


def test_eds_cluster_waits_for_its_assignment(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("c", "service")))
    assert mesh.wanted_assignments == {"service"}
    assert mesh.snapshot().clusters == {}
    assert mesh.snapshot().waiting == {"cluster c": ("assignment service",)}

    arrived = assignment("service")
    mesh.update_assignments(of(arrived))
    assert mesh.snapshot().clusters.keys() == {"c"}
    assert mesh.snapshot().assignments["c"] is arrived
    assert mesh.snapshot().waiting == {}


def test_assignment_that_does_not_exist_is_one_without_endpoints(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("c")))
    mesh.update_assignments({}, {"c"})
    first = mesh.snapshot()
    assert first.assignments == {"c": ClusterLoadAssignment(name="c")}

    mesh.update_assignments({}, {"c"})
    assert mesh.snapshot() is first


def test_clusters_that_need_nothing_are_active_at_once(mesh: Assembler) -> None:
    passthrough = Cluster(name="p", discovery=Discovery.ORIGINAL_DST)
    mesh.update_clusters(of(static("s"), passthrough))
    got = mesh.snapshot()
    assert got.clusters == of(static("s"), passthrough)
    assert got.assignments == of(assignment("s"))


def test_dns_cluster_waits_for_its_first_resolution(mesh: Assembler) -> None:
    cluster = dns("d")
    mesh.update_clusters(of(cluster))
    assert mesh.dns_clusters == {"d": cluster}
    assert mesh.snapshot().waiting == {"cluster d": ("resolution d",)}

    mesh.update_resolved({"d": ClusterLoadAssignment(name="d")})
    assert mesh.snapshot().assignments == {"d": ClusterLoadAssignment(name="d")}

    mesh.update_clusters(of(replace(cluster, upstream_http=cluster.upstream_http, is_locality_weighted=True)))
    assert mesh.snapshot().clusters["d"].is_locality_weighted, "a new version goes on with what is resolved"

    mesh.update_clusters({}, {"d"})
    assert mesh.dns_clusters == {}
    mesh.update_clusters(of(cluster))
    assert mesh.snapshot().clusters == {}, "what was resolved for a cluster that was gone is not used again"


def test_new_eds_name_keeps_the_old_version_until_its_assignment_came(mesh: Assembler) -> None:
    old = eds("c", "one")
    mesh.update_clusters(of(old))
    mesh.update_assignments(of(assignment("one")))
    mesh.update_clusters(of(eds("c", "two")))
    assert mesh.wanted_assignments == {"one", "two"}
    assert mesh.snapshot().clusters["c"] is old

    moved = assignment("one", "10.0.0.9")
    mesh.update_assignments(of(moved))
    assert mesh.snapshot().assignments["c"] is moved, "the old version's endpoints go on changing"

    mesh.update_assignments(of(assignment("two")))
    assert mesh.snapshot().clusters["c"].eds_service_name == "two"
    assert mesh.wanted_assignments == {"two"}


def test_listener_waits_for_its_cluster(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("c")))
    mesh.update_listeners(of(tcp("l", "c")))
    assert mesh.snapshot().listeners == {}
    assert mesh.snapshot().waiting["listener l"] == ("cluster c",)

    mesh.update_assignments(of(assignment("c")))
    assert mesh.snapshot().listeners == of(tcp("l", "c"))


def test_listener_does_not_wait_for_a_cluster_that_is_not_there(mesh: Assembler) -> None:
    mesh.update_listeners(of(tcp("l", "nowhere")))
    assert mesh.snapshot().listeners.keys() == {"l"}


def test_listener_stops_waiting_for_a_cluster_that_is_removed(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("c")))
    mesh.update_listeners(of(tcp("l", "c")))
    mesh.update_clusters({}, {"c"})
    assert mesh.snapshot().listeners.keys() == {"l"}
    assert mesh.snapshot().waiting == {}


def test_listener_waits_for_its_routes_and_they_for_their_clusters(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("c")))
    mesh.update_listeners(of(http("l", "r")))
    assert mesh.wanted_route_configs == {"r"}
    mesh.update_route_configs(of(routes("r", "c")))
    assert mesh.snapshot().waiting == {
        "cluster c": ("assignment c",),
        "listener l": ("route configuration r",),
        "route configuration r": ("cluster c",),
    }
    mesh.update_assignments(of(assignment("c")))
    got = mesh.snapshot()
    assert (got.listeners, got.route_configs, got.waiting) == (of(http("l", "r")), of(routes("r", "c")), {})


def test_routes_that_do_not_exist_are_not_waited_for(mesh: Assembler) -> None:
    mesh.update_listeners(of(http("l", "r")))
    mesh.update_route_configs({}, {"r"})
    assert mesh.snapshot().listeners.keys() == {"l"}
    assert mesh.snapshot().route_configs == {}


def test_new_version_of_a_listener_waits_while_the_old_one_serves(mesh: Assembler) -> None:
    mesh.update_listeners(of(http("l", "old")))
    mesh.update_route_configs(of(routes("old")))
    mesh.update_listeners(of(http("l", "new")))
    assert mesh.wanted_route_configs == {"old", "new"}
    assert mesh.snapshot().listeners == of(http("l", "old"))

    mesh.update_route_configs(of(routes("new")))
    assert mesh.snapshot().listeners == of(http("l", "new"))
    assert mesh.snapshot().route_configs.keys() == mesh.wanted_route_configs == {"new"}


def test_new_routes_of_an_active_listener_apply_at_once(mesh: Assembler) -> None:
    mesh.update_listeners(of(http("l", "r")))
    mesh.update_route_configs(of(routes("r")))
    listeners = mesh.snapshot().listeners
    mesh.update_route_configs(of(routes("r", "nowhere")))
    assert mesh.snapshot().route_configs == of(routes("r", "nowhere"))
    assert mesh.snapshot().listeners is listeners


def test_removed_listener_goes_at_once_and_its_routes_with_it(mesh: Assembler) -> None:
    mesh.update_listeners(of(http("l", "r")))
    mesh.update_route_configs(of(routes("r")))
    mesh.update_listeners({}, {"l"})
    assert mesh.snapshot() == Snapshot()
    assert mesh.wanted_route_configs == frozenset()


def test_removed_cluster_goes_at_once(mesh: Assembler) -> None:
    mesh.update_clusters(of(static("c")))
    mesh.update_listeners(of(tcp("l", "c")))
    mesh.update_clusters({}, {"c"})
    assert mesh.snapshot().clusters == mesh.snapshot().assignments == {}
    assert mesh.snapshot().listeners.keys() == {"l"}


def test_removed_cluster_stays_for_a_listener_whose_successor_is_held_back(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("old"), eds("new")))
    mesh.update_assignments(of(assignment("old")))
    mesh.update_listeners(of(tcp("l", "old")))
    mesh.update_listeners(of(tcp("l", "new")))
    mesh.update_clusters({}, {"old"})
    assert mesh.snapshot().clusters.keys() == {"old"}
    assert "old" in mesh.wanted_assignments

    mesh.update_assignments(of(assignment("new")))
    assert mesh.snapshot().clusters.keys() == mesh.wanted_assignments == {"new"}
    assert mesh.snapshot().listeners == of(tcp("l", "new"))


def test_removed_cluster_stays_for_routes_whose_successor_is_held_back(mesh: Assembler) -> None:
    mesh.update_clusters(of(static("old"), eds("new")))
    mesh.update_listeners(of(http("l", "r")))
    mesh.update_route_configs(of(routes("r", "old")))
    mesh.update_route_configs(of(routes("r", "new")))
    mesh.update_clusters({}, {"old"})
    assert mesh.snapshot().clusters.keys() == {"old"}
    mesh.update_assignments({}, {"new"})
    assert mesh.snapshot().clusters.keys() == {"new"}


def test_routes_that_pass_from_one_listener_to_another_are_not_forgotten(mesh: Assembler) -> None:
    mesh.update_listeners(of(http("a", "r")))
    mesh.update_route_configs(of(routes("r")))
    mesh.update_listeners(of(http("b", "r")), {"a"})
    assert mesh.snapshot().listeners.keys() == {"b"}
    assert mesh.snapshot().route_configs.keys() == {"r"}


def test_what_is_not_wanted_is_ignored(mesh: Assembler) -> None:
    mesh.update_assignments(of(assignment("x")), {"y"})
    mesh.update_route_configs(of(routes("x")), {"y"})
    mesh.update_resolved(of(assignment("x")))
    assert mesh.snapshot() == Snapshot()


def test_giving_up_ends_waiting_and_leaves_good_versions(mesh: Assembler) -> None:
    """The latest versions were refused: what has no good version is as if it did not exist."""
    mesh.update_clusters(of(eds("good"), eds("bad")))
    mesh.update_assignments(of(assignment("good")))
    mesh.update_listeners(of(http("l", "r")))
    mesh.give_up(route_configs={"r"}, assignments={"good", "bad"})
    got = mesh.snapshot()
    assert got.assignments == {"good": assignment("good"), "bad": ClusterLoadAssignment(name="bad")}
    assert (got.listeners.keys(), got.waiting) == ({"l"}, {})


def test_unchanged_parts_keep_their_identity(mesh: Assembler) -> None:
    mesh.update_clusters(of(*(eds(f"c{i}") for i in range(20))))
    mesh.update_assignments(of(*(assignment(f"c{i}") for i in range(20))))
    mesh.update_listeners(of(*(tcp(f"l{i}", f"c{i}") for i in range(20))))
    before = mesh.snapshot()
    assert mesh.snapshot() is before

    mesh.update_assignments(of(assignment("c7", "10.9.9.9")))
    after = mesh.snapshot()
    assert after.listeners is before.listeners
    assert after.clusters is before.clusters
    changed = [name for name in after.assignments if after.assignments[name] is not before.assignments[name]]
    assert changed == ["c7"]
    assert before.assignments["c7"] == assignment("c7"), "an older snapshot does not change"


def test_wanted_names_keep_their_identity(mesh: Assembler) -> None:
    mesh.update_clusters(of(eds("a"), dns("d")))
    names, hosts = mesh.wanted_assignments, mesh.dns_clusters
    mesh.update_assignments(of(assignment("a")))
    mesh.update_clusters(of(static("s")))
    assert mesh.wanted_assignments is names
    assert mesh.dns_clusters is hosts


def test_mappings_are_sorted_whatever_the_order_of_arrival(mesh: Assembler) -> None:
    for name in ("b", "c", "a"):
        mesh.update_clusters(of(static(name)))
    assert list(mesh.snapshot().clusters) == list(mesh.snapshot().assignments) == ["a", "b", "c"]


def test_references_of_every_kind_of_filter() -> None:
    inline = HttpConnectionManager(route_config=routes("r", "in"))
    other = WeightedClusters(clusters=(WeightedCluster("w1", 1), WeightedCluster("w2", 0)))
    table = VirtualHost(name="v", domains=("*",), routes=(Route(action=other),))
    assert clusters_of_routes(RouteConfiguration(name="r", virtual_hosts=(table,))) == {"w1", "w2"}
    listener = Listener(
        name="l",
        addresses=(),
        filter_chains=(FilterChain(network=inline), FilterChain(network=UdpProxy(cluster="u"))),
        default_filter_chain=FilterChain(network=HttpConnectionManager(rds_name="x")),
    )
    assert clusters_of_listener(listener) == {"in", "u"}
    assert route_configs_of(listener) == {"x"}


# In any order

CLUSTERS = ("c0", "c1", "c2", "c3")
SERVICES = ("s0", "s1")
ROUTES = ("r0", "r1")
LISTENERS = ("l0", "l1", "l2")

Config = dict[str, dict[str, object]]
"""{"clusters", "listeners", "services" or "routes": {name: model}}."""

cluster_names = st.lists(st.sampled_from(CLUSTERS), max_size=3, unique=True)
cluster_kinds = st.one_of(
    st.sampled_from(SERVICES).map(lambda service: lambda name: eds(name, service)), st.just(static), st.just(dns)
)
listener_kinds = st.one_of(
    cluster_names.map(lambda names: lambda name: tcp(name, *names)),
    st.sampled_from(ROUTES).map(lambda route: lambda name: http(name, route)),
)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    """What a control plane has; services and routes that it lacks are known not to exist."""
    clusters = draw(st.dictionaries(st.sampled_from(CLUSTERS), cluster_kinds))
    listeners = draw(st.dictionaries(st.sampled_from(LISTENERS), listener_kinds))
    services = draw(st.dictionaries(st.sampled_from(SERVICES), st.sampled_from(("10.0.0.1", "10.0.0.2"))))
    tables = draw(st.dictionaries(st.sampled_from(ROUTES), cluster_names))
    return {
        "clusters": {name: build(name) for name, build in clusters.items()},
        "listeners": {name: build(name) for name, build in listeners.items()},
        "services": {name: assignment(name, ip) for name, ip in services.items()},
        "routes": {name: routes(name, *names) for name, names in tables.items()},
    }


class Peer:
    """A control plane and a resolver that deliver what differs, one resource at a time, as someone chooses."""

    def __init__(self, mesh: Assembler) -> None:
        self.mesh = mesh
        self.told: dict[tuple[str, str], object] = {}

    def pending(self, config: Config) -> list[tuple[str, str, object]]:
        """What could be delivered next; None stands for a removal, or for what does not exist."""
        kept = {("services", n) for n in self.mesh.wanted_assignments}
        kept |= {("routes", n) for n in self.mesh.wanted_route_configs}
        kept |= {("dns", n) for n in self.mesh.dns_clusters}
        everything = {("clusters", n) for n in CLUSTERS} | {("listeners", n) for n in LISTENERS}
        self.told = {key: value for key, value in self.told.items() if key in kept | everything}
        table = config | {"dns": {name: assignment(name, "10.0.0.7") for name in CLUSTERS}}
        todo = []
        for kind, name in sorted(kept | everything):
            value = table[kind].get(name)
            never_told = (kind, name) not in self.told
            if (never_told and (value is not None or (kind, name) in kept)) or (
                not never_told and self.told[kind, name] != value
            ):
                todo.append((kind, name, value))
        return todo

    def deliver(self, kind: str, name: str, value: object) -> None:
        update = {
            "clusters": self.mesh.update_clusters,
            "listeners": self.mesh.update_listeners,
            "services": self.mesh.update_assignments,
            "routes": self.mesh.update_route_configs,
        }
        self.told[kind, name] = value
        if kind == "dns":
            self.mesh.update_resolved({name: value})
        elif value is None:
            update[kind]({}, {name})
        else:
            update[kind]({name: value}, ())


def check_is_closed(mesh: Assembler, before: Snapshot, after: Snapshot, known: set[str]) -> None:
    """Whatever became active refers to no cluster of CDS (`known`) that is not active."""
    for name, listener in after.listeners.items():
        if before.listeners.get(name) is not listener:
            assert not (clusters_of_listener(listener) & known) - after.clusters.keys()
    for name, table in after.route_configs.items():
        if before.route_configs.get(name) is not table:
            assert not (clusters_of_routes(table) & known) - after.clusters.keys()
    for listener in after.listeners.values():
        assert route_configs_of(listener) <= mesh.wanted_route_configs
    for name, cluster in after.clusters.items():
        assert name in after.assignments, "every cluster of these tests has endpoints, or none"
        if cluster.discovery is Discovery.EDS:
            assert after.assignments[name].name == cluster.eds_service_name
            assert cluster.eds_service_name in mesh.wanted_assignments
    assert after.assignments.keys() == after.clusters.keys()


def run(mesh: Assembler, peer: Peer, config: Config, data: st.DataObject) -> None:
    while todo := peer.pending(config):
        before = mesh.snapshot()
        kind, name, value = data.draw(st.sampled_from(todo), label="deliver")
        peer.deliver(kind, name, value)
        known = {n for (k, n), told in peer.told.items() if k == "clusters" and told is not None}
        check_is_closed(mesh, before, mesh.snapshot(), known)


def run_in_order(config: Config) -> Snapshot:
    mesh = Assembler()
    peer = Peer(mesh)
    while todo := peer.pending(config):
        peer.deliver(*todo[0])
    return mesh.snapshot()


@settings(max_examples=120, deadline=None)
@given(st.lists(configurations(), min_size=1, max_size=3), st.data())
def test_any_order_ends_in_the_same_snapshot(configs: list[Config], data: st.DataObject) -> None:
    """One configuration after the other, each delivered in any order, ends as the last one alone does."""
    mesh = Assembler()
    peer = Peer(mesh)
    for config in configs:
        run(mesh, peer, config, data)
    got, want = mesh.snapshot(), run_in_order(configs[-1])
    assert got == want
    assert got.waiting == {}
    assert got.listeners == configs[-1]["listeners"]
    assert got.clusters == configs[-1]["clusters"]
    assert [list(m) for m in (got.listeners, got.route_configs, got.clusters, got.assignments)] == [
        list(m) for m in (want.listeners, want.route_configs, want.clusters, want.assignments)
    ]


@settings(max_examples=50, deadline=None)
@given(configurations(), configurations(), st.data())
def test_interrupted_changes_still_end_well(first: Config, second: Config, data: st.DataObject) -> None:
    """The second configuration comes while the first is half delivered."""
    mesh = Assembler()
    peer = Peer(mesh)
    for _ in range(data.draw(st.integers(0, 8), label="steps")):
        if todo := peer.pending(first):
            peer.deliver(*data.draw(st.sampled_from(todo), label="deliver"))
    run(mesh, peer, second, data)
    assert mesh.snapshot() == run_in_order(second)
