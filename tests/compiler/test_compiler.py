"""Reports, refusals, what is kept between snapshots, and how far one change reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmesh.compiler import Compilation, Compiler
from kmesh.compiler.interpreter.requests import Matched, match_request
from kmesh.compiler.routes.unit import routing_id
from kmesh.maps.image import Fragment, MapImage, MapName
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, LbPolicy
from kmesh.model.endpoint import ClusterLoadAssignment, DropOverload, Endpoint, Health, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import FilterChain, HttpConnectionManager, Listener, TcpProxy, WeightedCluster
from kmesh.model.route import ClusterAction, ClusterHeader, Feature, Route, RouteConfiguration, VirtualHost
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Handover, Reason
from tests.support.distribution import measure
from tests.support.snapshot_strategies import cluster_snapshots, listener_snapshots

SERVICE = SocketAddress.parse("10.96.0.1", 80)
REFUSED = (Limitation(feature="feature", path="path", effect=Effect.REFUSED),)
ASKED = (Feature(name="Route.typed_per_filter_config", path="path"),)


def make_endpoint(number: int, weight: int = 1) -> Endpoint:
    return Endpoint(SocketAddress(V4_MAPPED + (0x0A000000 + number).to_bytes(4, "big"), 8080), weight)


def make_assignment(name: str, endpoints: tuple[Endpoint, ...]) -> ClusterLoadAssignment:
    return ClusterLoadAssignment(name=name, localities=(LocalityEndpoints(locality=Locality(), endpoints=endpoints),))


def make_listener(number: int, *clusters: str) -> Listener:
    proxy = TcpProxy(clusters=tuple(WeightedCluster(name, 1) for name in clusters))
    address = SocketAddress(V4_MAPPED + (0x0A600001 + number).to_bytes(4, "big"), 80)
    return Listener(name=f"l{number}", addresses=(address,), filter_chains=(FilterChain(network=proxy),))


def make_mesh(services: int, endpoints: int, policy: LbPolicy = LbPolicy.RANDOM) -> Snapshot:
    names = [f"c{number}" for number in range(services)]
    return Snapshot(
        listeners={f"l{i}": make_listener(i, name) for i, name in enumerate(names)},
        clusters={name: Cluster(name=name, discovery=Discovery.EDS, lb_policy=policy) for name in names},
        assignments={
            name: make_assignment(name, tuple(make_endpoint(i * endpoints + n) for n in range(endpoints)))
            for i, name in enumerate(names)
        },
    )


def with_endpoints(snapshot: Snapshot, name: str, endpoints: tuple[Endpoint, ...]) -> Snapshot:
    return replace(snapshot, assignments={**snapshot.assignments, name: make_assignment(name, endpoints)})


def count_changes(before: MapImage, after: MapImage) -> dict[MapName, int]:
    """Records written and deleted to get from one to the other."""
    old, new = before.tables(), after.tables()
    return {name: len(set(old[name].items()) ^ set(new[name].items())) for name in MapName}


# One change


def edit_first(endpoints: tuple[Endpoint, ...], edit: str) -> tuple[Endpoint, ...]:
    match edit:
        case "add":
            return (make_endpoint(1 << 20), *endpoints)
        case "remove":
            return endpoints[1:]
        case _:
            return (endpoints[0]._replace(weight=3), *endpoints[1:])


@settings(max_examples=40, deadline=None)
@given(
    count=st.one_of(st.integers(2, 200), st.integers(2, 5000)),
    edit=st.sampled_from(["add", "remove", "re-weight"]),
    policy=st.sampled_from([LbPolicy.RANDOM, LbPolicy.LEAST_REQUEST]),
)
def test_one_endpoint_changes_a_constant_number_of_records(count: int, edit: str, policy: LbPolicy) -> None:
    compiler, snapshot = Compiler(), make_mesh(1, count, policy)
    before = compiler.compile(snapshot).image
    endpoints = tuple(make_endpoint(number) for number in range(count))
    got = count_changes(before, compiler.compile(with_endpoints(snapshot, "c0", edit_first(endpoints, edit))).image)
    assert got[MapName.BACKEND] <= 1
    assert got[MapName.NODE] <= 3 * 3 + 1, "two nodes and the one they replace on each of three levels, and a root"
    assert got[MapName.CLUSTER] <= 2
    assert got[MapName.FRONTEND] == got[MapName.CURSOR] == 0


@pytest.mark.parametrize("count", [2, 64, 65, 500, 4096, 4097])
def test_one_endpoint_in_turn_changes_its_round_alone(count: int) -> None:
    compiler, snapshot = Compiler(), make_mesh(3, count, LbPolicy.ROUND_ROBIN)
    before = compiler.compile(snapshot).image
    endpoints = tuple(make_endpoint(count + number) for number in range(count - 1))
    got = count_changes(before, compiler.compile(with_endpoints(snapshot, "c1", endpoints)).image)
    nodes = ceil(count / 64) + ceil(count / 4096) + 1
    assert got[MapName.BACKEND] == 1
    assert got[MapName.NODE] <= 2 * nodes
    assert got[MapName.CLUSTER] == 2
    assert got[MapName.CURSOR] <= 1, "one of two endpoints gone needs no cursor"
    assert got[MapName.FRONTEND] == 0


@settings(max_examples=20, deadline=None)
@given(st.permutations([make_endpoint(number, 1 + number % 3) for number in range(150)]))
def test_order_of_endpoints_does_not_matter(endpoints: list[Endpoint]) -> None:
    snapshot = make_mesh(1, 0, LbPolicy.LEAST_REQUEST)
    want = Compiler().compile(with_endpoints(snapshot, "c0", tuple(sorted(endpoints, key=str)))).image
    got = Compiler().compile(with_endpoints(snapshot, "c0", tuple(endpoints))).image
    assert got.digest() == want.digest()
    assert got.fragments == want.fragments


# What is kept


def test_unchanged_units_keep_their_fragments() -> None:
    compiler, snapshot = Compiler(), make_mesh(20, 10)
    before = compiler.compile(snapshot).image
    after = compiler.compile(with_endpoints(snapshot, "c7", (make_endpoint(9999),))).image
    changed = {unit for unit in before.fragments if before.fragments[unit] is not after.fragments[unit]}
    assert changed == {("cluster", "c7")}


def test_equal_resource_sent_again_keeps_its_fragment() -> None:
    compiler, snapshot = Compiler(), make_mesh(2, 10)
    before = compiler.compile(snapshot).image
    again = with_endpoints(snapshot, "c1", tuple(make_endpoint(10 + number) for number in range(10)))
    assert again.assignments["c1"] is not snapshot.assignments["c1"]
    assert compiler.compile(again).image.fragments["cluster", "c1"] is before.fragments["cluster", "c1"]


def test_clusters_that_nothing_leads_to_are_left_out() -> None:
    snapshot = make_mesh(2, 1)
    compiler = Compiler()
    compiler.compile(snapshot)
    got = compiler.compile(replace(snapshot, listeners={"l1": snapshot.listeners["l1"]})).image
    assert set(got.fragments) == {("listener", "l1"), ("cluster", "c1")}


def test_a_cluster_that_comes_later_changes_only_its_cell() -> None:
    compiler, snapshot = Compiler(), make_mesh(1, 1)
    before = compiler.compile(replace(snapshot, clusters={}, assignments={})).image
    got = count_changes(before, compiler.compile(snapshot).image)
    assert {name: count for name, count in got.items() if count} == {MapName.BACKEND: 1, MapName.CLUSTER: 2}


MAPPINGS = ("listeners", "route_configs", "clusters", "assignments")


def results(compilation: Compilation) -> tuple[dict[tuple[str, str], Fragment], object, object]:
    return dict(compilation.image.fragments), compilation.program, compilation.reports


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    snapshots=st.lists(st.one_of(listener_snapshots(), cluster_snapshots()), min_size=2, max_size=4), data=st.data()
)
def test_incremental_equals_from_scratch(snapshots: list[Snapshot], data: st.DataObject) -> None:
    compiler = Compiler()
    current = Snapshot()
    for snapshot in snapshots:
        taken = data.draw(st.sets(st.sampled_from(MAPPINGS), min_size=1))
        current = replace(current, **{name: getattr(snapshot, name) for name in taken})
        got = compiler.compile(current)
        assert results(got) == results(Compiler().compile(current))


# Refusals and reports


def limit_chain(snapshot: Snapshot) -> Snapshot:
    chain = FilterChain(network=TcpProxy(clusters=(WeightedCluster("c0", 1),)), limitations=REFUSED)
    return replace(snapshot, listeners={"l0": replace(snapshot.listeners["l0"], filter_chains=(chain,))})


def limit_filter(snapshot: Snapshot) -> Snapshot:
    chain = FilterChain(network=TcpProxy(clusters=(WeightedCluster("c0", 1),), limitations=REFUSED))
    return replace(snapshot, listeners={"l0": replace(snapshot.listeners["l0"], filter_chains=(chain,))})


def with_routes(snapshot: Snapshot, config: RouteConfiguration) -> Snapshot:
    chain = FilterChain(network=HttpConnectionManager(rds_name="r"))
    listener = replace(snapshot.listeners["l0"], filter_chains=(chain,))
    return replace(snapshot, listeners={"l0": listener}, route_configs={"r": config})


ROUTE = Route(action=ClusterAction(cluster="c0"))
HOST = VirtualHost(name="host", domains=("*",), routes=(ROUTE,))
ROUTES = RouteConfiguration(name="r", virtual_hosts=(HOST,))


@pytest.mark.parametrize(
    ("limit", "resource"),
    [
        pytest.param(
            lambda s: replace(s, listeners={"l0": replace(s.listeners["l0"], limitations=REFUSED)}),
            "listener l0",
            id="listener",
        ),
        pytest.param(limit_chain, "listener l0", id="filter_chain"),
        pytest.param(limit_filter, "listener l0", id="network_filter"),
        pytest.param(
            lambda s: replace(s, clusters={"c0": replace(s.clusters["c0"], limitations=REFUSED)}),
            "cluster c0",
            id="cluster",
        ),
        pytest.param(
            lambda s: replace(s, assignments={"c0": replace(s.assignments["c0"], limitations=REFUSED)}),
            "cluster load assignment c0",
            id="assignment",
        ),
    ],
)
def test_every_refused_limitation_refuses_and_is_reported(
    limit: Callable[[Snapshot], Snapshot], resource: str
) -> None:
    got = Compiler().compile(limit(make_mesh(1, 3)))
    assert measure(got.image, SERVICE) == {Reason.UNSUPPORTED: 1}
    assert [f"{r.kind} {r.name}" for r in got.reports if r.effect is Effect.REFUSED] == [resource]


@pytest.mark.parametrize(
    ("config", "resource"),
    [
        pytest.param(replace(ROUTES, features=ASKED), "route configuration {}", id="route_config"),
        pytest.param(
            replace(ROUTES, virtual_hosts=(replace(HOST, features=ASKED),)), "virtual host {}", id="virtual_host"
        ),
        pytest.param(
            replace(ROUTES, virtual_hosts=(replace(HOST, routes=(replace(ROUTE, features=ASKED),)),)),
            "virtual host {}",
            id="route",
        ),
    ],
)
def test_what_routes_ask_for_is_handed_over_and_reported(config: RouteConfiguration, resource: str) -> None:
    """Requests that could go on without it are not let through, in the kernel or at connect."""
    got = Compiler().compile(with_routes(make_mesh(1, 3), config))
    assert measure(got.image, SERVICE) == {Reason.ROUTED: 1}
    (unit,) = got.routings
    head, tables = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", got.image.tables()
    matched = match_request(tables, routing_id(unit), head, port=80, draw=lambda: 0, cursors={})
    assert matched == Matched(handover=Handover.WAYPOINT)
    name = f"{HOST.name} of {config.name}" if "host" in resource else config.name
    assert [f"{r.kind} {r.name}" for r in got.reports if r.effect is Effect.REFUSED] == [resource.format(name)]


def test_routes_without_limitation_are_followed() -> None:
    got = Compiler().compile(with_routes(make_mesh(1, 1), ROUTES))
    assert measure(got.image, SERVICE) == {make_endpoint(0).address: 1}
    assert got.reports == ()


def test_clusters_that_requests_name_themselves_may_be_any() -> None:
    by_header = replace(ROUTES, virtual_hosts=(replace(HOST, routes=(Route(action=ClusterHeader(header="x")),)),))
    snapshot = with_routes(make_mesh(3, 1), by_header)
    compiler = Compiler()
    compiled = compiler.compile(snapshot)
    assert [unit.name for unit in compiled.program.clusters] == ["c0", "c1", "c2"]
    assert compiled.upstreams == snapshot.clusters
    fewer = {name: held for name, held in snapshot.clusters.items() if name != "c2"}
    compiled = compiler.compile(replace(snapshot, clusters=fewer))
    assert [unit.name for unit in compiled.program.clusters] == ["c0", "c1"]


def test_reports_of_what_is_not_in_use_are_left_out() -> None:
    snapshot = make_mesh(2, 1)
    clusters = {**snapshot.clusters, "c1": replace(snapshot.clusters["c1"], limitations=REFUSED)}
    got = Compiler().compile(replace(snapshot, clusters=clusters, listeners={"l0": snapshot.listeners["l0"]}))
    assert got.reports == ()


def test_first_endpoint_of_an_address_stays() -> None:
    endpoints = (make_endpoint(1, 3), make_endpoint(2, 1), make_endpoint(1, 9))
    snapshot = with_endpoints(make_mesh(1, 0, LbPolicy.LEAST_REQUEST), "c0", endpoints)
    got = measure(Compiler().compile(snapshot).image, SERVICE)
    assert {str(address): round(float(share), 6) for address, share in got.items()} == {
        "10.0.0.1:8080": 0.75,
        "10.0.0.2:8080": 0.25,
    }


def test_thousands_of_weighted_clusters_are_too_deep() -> None:
    listener = make_listener(0, *(f"c{number}" for number in range(64 * 64 + 1)))
    got = Compiler().compile(Snapshot(listeners={"l0": listener}))
    assert measure(got.image, SERVICE) == {Reason.UNSUPPORTED: 1}
    assert [report.name for report in got.reports] == ["l0"]


def test_as_many_weighted_clusters_as_fit() -> None:
    listener = make_listener(0, *(f"c{number}" for number in range(70)))
    got = measure(Compiler().compile(Snapshot(listeners={"l0": listener})).image, SERVICE)
    assert got == {Reason.NO_CLUSTER: 1}


def test_deepest_cluster_fits() -> None:
    """A drop, 100 localities of unequal weight (more than one node holds), two levels of endpoints in one of them."""
    groups = tuple(
        LocalityEndpoints(
            locality=Locality(str(number)),
            weight=number + 1,
            endpoints=tuple(make_endpoint(number * 1000 + i) for i in range(300 if number == 0 else 1)),
        )
        for number in range(100)
    )
    assignment = ClusterLoadAssignment(
        name="c0", localities=groups, drops=(DropOverload(category="x", per_million=1),)
    )
    snapshot = replace(make_mesh(1, 1), assignments={"c0": assignment})
    clusters = {"c0": replace(snapshot.clusters["c0"], is_locality_weighted=True)}
    got = measure(Compiler().compile(replace(snapshot, clusters=clusters)).image, SERVICE)
    assert len(got) == 300 + 99 + 1
    assert Reason.BROKEN not in got


def test_no_endpoint_is_usable() -> None:
    endpoints = (make_endpoint(1)._replace(health=Health.UNHEALTHY),)
    got = measure(Compiler().compile(with_endpoints(make_mesh(1, 0), "c0", endpoints)).image, SERVICE)
    assert got == {Reason.NO_ENDPOINT: 1}


def test_equal_turns_for_all() -> None:
    got = measure(Compiler().compile(make_mesh(1, 130, LbPolicy.ROUND_ROBIN)).image, SERVICE)
    assert len(got) == 130
    assert set(got.values()) == {next(iter(got.values()))}
