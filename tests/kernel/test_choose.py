"""The kernel's decision equals the reference interpreter's, case by case, on compiled and on unsound tables.

`CHOOSE_COMPARISONS=1000000` runs that many (nightly) instead of 20,000; a failure names the seed of its tables.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmesh.compiler import Compiler, decide
from kmesh.compiler.reference import Tables
from kmesh.kernel import bpf
from kmesh.kernel.features import probe_features
from kmesh.maps.apply import Applier
from kmesh.maps.image import MapImage, MapName
from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, LbPolicy
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Locality, LocalityEndpoints
from kmesh.model.listener import FilterChain, Listener, TcpProxy, WeightedCluster
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import LIMITS, Action, Reason
from kmesh.records.seal import seal
from tests.kernel.conftest import Kernel, open_kernel
from tests.support.any_tables import ASKED, any_draw, any_tables
from tests.support.choose_harness import DRAWS, ChooseHarness, Race
from tests.support.records import STAY, alias_node, backend, cluster, frontend, frontend_key, image, key64
from tests.support.sandbox import Sandbox
from tests.support.snapshot_strategies import DESTINATIONS, cluster_snapshots, listener_snapshots

COMPARISONS = int(os.environ.get("CHOOSE_COMPARISONS", "20000"))
CASES = 200
"""Of one image: applying it costs as much as a thousand decisions."""
VIP = SocketAddress.parse("10.96.0.1", 80)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """An instance for this module alone: unsound tables are no one else's to build on."""
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())


@pytest.fixture(scope="module")
def harness(kernel: Kernel) -> ChooseHarness:
    return ChooseHarness(kernel.build.maps_dir, kernel.paths.root / "harness")


def put(kernel: Kernel, compiled: MapImage) -> None:
    """Compare with what is there byte by byte: ids of unsound tables do not tell their content."""
    Applier(kernel.tables).apply(compiled)


def compare(
    harness: ChooseHarness,
    tables: Tables,
    cursors: dict[int, int],
    destination: SocketAddress,
    protocol: Protocol,
    is_ipv6_socket: bool,
    draws: list[int],
) -> Reason:
    """One decision by both; returns what it was."""
    left = iter(draws)
    want = decide(tables, destination, protocol, is_ipv6_socket=is_ipv6_socket, draw=left.__next__, cursors=cursors)
    got = harness.choose(destination, protocol, is_ipv6_socket=is_ipv6_socket, draws=draws)
    case = f"{destination} {protocol.name} {is_ipv6_socket=} {draws=}"
    assert got.reason == want.reason, case
    assert got.draws_taken == DRAWS - len(list(left)), case
    if want.reason is Reason.BALANCED:
        assert (got.address, got.backend) == (want.address, want.backend), case
    return want.reason


def compare_many(
    kernel: Kernel,
    harness: ChooseHarness,
    compiled: MapImage,
    asked: list[SocketAddress],
    seed: int,
    cases: int = CASES,
) -> set[Reason]:
    """Put an image in force and compare decisions on it, and how far they moved its cursors."""
    random = Random(seed)
    put(kernel, compiled)
    scatter_cursors(kernel, random)
    tables = {**compiled.tables(), MapName.CURSOR: kernel.tables.read(MapName.CURSOR)}
    cursors: dict[int, int] = {}
    reasons = set()
    for _ in range(cases):
        destination = random.choice(asked)
        is_ipv6_socket = not destination.is_v4 or random.random() < 0.5
        draws = [any_draw(random) for _ in range(DRAWS)]
        protocol = random.choice((Protocol.TCP, Protocol.TCP, Protocol.TCP, Protocol.UDP))
        reasons.add(compare(harness, tables, cursors, destination, protocol, is_ipv6_socket, draws))
    moved = {key64(number): key64(value) for number, value in cursors.items()}
    assert kernel.tables.read(MapName.CURSOR) == {**tables[MapName.CURSOR], **moved}
    return reasons


def scatter_cursors(kernel: Kernel, random: Random) -> None:
    """Let some counters stand where they are about to overflow."""
    outer = bpf.get_object(kernel.build.maps_dir / MapName.CURSOR.value)
    inner = bpf.map_fd_by_id(int.from_bytes(bpf.lookup(outer, bytes(4), 4) or b"", "little"))
    for key in kernel.tables.read(MapName.CURSOR):
        if random.random() < 0.5:
            bpf.update(inner, key, key64(random.choice((0, 2**32 - 2, 2**63, 2**64 - 3))))
    os.close(inner)
    os.close(outer)


SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=COMPARISONS // 2 // CASES, deadline=None, database=None, suppress_health_check=SLOW)
@given(snapshot=st.one_of(listener_snapshots(), cluster_snapshots()), seed=st.integers(0, 2**32))
def test_compiled_images(kernel: Kernel, harness: ChooseHarness, snapshot: Snapshot, seed: int) -> None:
    compiled = Compiler().compile(snapshot).image
    compare_many(kernel, harness, compiled, DESTINATIONS, seed)


@pytest.mark.parametrize("policy", [LbPolicy.ROUND_ROBIN, LbPolicy.LEAST_REQUEST, LbPolicy.RANDOM])
@pytest.mark.parametrize("count", [65, 2000, 5000])
def test_large_clusters(kernel: Kernel, harness: ChooseHarness, policy: LbPolicy, count: int) -> None:
    compiled = Compiler().compile(large_snapshot(policy, count)).image
    assert compare_many(kernel, harness, compiled, [VIP], seed=count) <= {Reason.BALANCED, Reason.NOT_MESH}


def large_snapshot(policy: LbPolicy, count: int) -> Snapshot:
    endpoints = tuple(Endpoint(SocketAddress.parse(f"10.{i >> 8}.{i & 255}.1", 80), 1 + i % 2) for i in range(count))
    group = LocalityEndpoints(locality=Locality(), endpoints=endpoints)
    chain = FilterChain(network=TcpProxy(clusters=(WeightedCluster("a", 3), WeightedCluster("b", 1))))
    return Snapshot(
        listeners={"l": Listener(name="l", addresses=(VIP,), filter_chains=(chain,))},
        clusters={name: Cluster(name=name, discovery=Discovery.STATIC, lb_policy=policy) for name in "ab"},
        assignments={name: ClusterLoadAssignment(name=name, localities=(group,)) for name in "ab"},
    )


def test_unsound_tables(kernel: Kernel, harness: ChooseHarness) -> None:
    """Never anything but the reference's outcome, whatever is in the maps."""
    first = Random().getrandbits(32)
    reasons: set[Reason] = set()
    for seed in range(first, first + COMPARISONS // 2 // CASES):
        try:
            reasons |= compare_many(kernel, harness, any_tables(Random(seed)), ASKED, seed)
        except AssertionError as error:
            error.add_note(f"seed of the tables: {seed}")
            raise
    assert {Reason.NOT_MESH, Reason.BALANCED, Reason.PASSED, Reason.FAMILY, Reason.BROKEN} <= reasons


@pytest.mark.parametrize("nodes", range(LIMITS["TREE_DEPTH"] + 2))
@pytest.mark.parametrize("has_cluster", [False, True], ids=["frontend", "cluster"])
def test_depth(kernel: Kernel, harness: ChooseHarness, nodes: int, has_cluster: bool) -> None:
    target, record = backend(SocketAddress.parse("10.0.0.1", 80))
    action, records = Action.BACKEND, [record]
    for _ in range(nodes):
        target, record = alias_node([(STAY, 0, action, target)])
        action = Action.NODE
        records.append(record)
    if has_cluster:
        target, record = cluster("c", action, target)
        action = Action.CLUSTER
        records.append(record)
    compiled = image(one=[*records, frontend(VIP, action, target)])
    reasons = compare_many(kernel, harness, compiled, [VIP], seed=nodes, cases=20)
    is_within = nodes + has_cluster <= LIMITS["TREE_DEPTH"]
    assert reasons - {Reason.NOT_MESH} == {Reason.BALANCED if is_within else Reason.BROKEN}


def test_circles_end(kernel: Kernel, harness: ChooseHarness) -> None:
    number, _ = cluster("c", Action.NONE, 0)
    _, to_itself = cluster("c", Action.CLUSTER, number)
    compiled = image(one=[to_itself, frontend(VIP, Action.CLUSTER, number)])
    assert compare_many(kernel, harness, compiled, [VIP], seed=1, cases=20) == {Reason.BROKEN, Reason.NOT_MESH}


@settings(max_examples=500, deadline=None, suppress_health_check=SLOW)
@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_seals_are_the_same_in_c(harness: ChooseHarness, key: bytes, target: int, action: int) -> None:
    assert harness.seal(key, target, action) == (seal(key, target, action), seal(key[:8], target, action))


@pytest.fixture
def swapping(kernel: Kernel) -> Iterator[list[tuple[bytes, tuple[int, int]]]]:
    """(frontend key, its two targets) of many frontends that a thread replaces all the time, each by its other."""
    frontends = []
    images = ([], [])
    for number in range(200):
        address = SocketAddress.parse(f"10.97.0.{number}", 80)
        targets = (1000 + 2 * number, 1001 + 2 * number)
        frontends.append((frontend_key(address), targets))
        for records, target in zip(images, targets, strict=True):
            records.append(frontend(address, Action.CLUSTER, target)[1:])
    stopped = threading.Event()

    def swap() -> None:
        while not stopped.is_set():
            for records in images:
                kernel.tables.upsert(MapName.FRONTEND, records, 0)

    put(kernel, image(all=[(MapName.FRONTEND, *record) for record in images[0]]))
    thread = threading.Thread(target=swap)
    thread.start()
    yield frontends
    stopped.set()
    thread.join()


def test_no_reader_sees_a_replacement_half_done(harness: ChooseHarness, swapping) -> None:
    """Each read finds one of the two values of its key: none missing, none of another key, none given up."""
    before = harness.race_counts()
    for key, targets in swapping:
        harness.race(key, targets, repeat=100_000)
    after = harness.race_counts()
    got = {outcome: after[outcome] - before[outcome] for outcome in Race}
    assert got[Race.FIRST] > 0 and got[Race.SECOND] > 0
    assert {got[Race.STRAY], got[Race.MISSING], got[Race.BROKEN]} == {0}


def test_keys_are_compared_whole(kernel: Kernel, harness: ChooseHarness) -> None:
    """What differs from a frontend in one bit is not that frontend."""
    put(kernel, image(one=[frontend(VIP, Action.REFUSE, int(Reason.BLACKHOLE))]))
    for bit in range(128):
        other = SocketAddress((int.from_bytes(VIP.addr16, "big") ^ 1 << bit).to_bytes(16, "big"), VIP.port)
        assert_not_mesh(harness, other, Protocol.TCP)
    for bit in range(16):
        assert_not_mesh(harness, SocketAddress(VIP.addr16, VIP.port ^ 1 << bit), Protocol.TCP)
    assert_not_mesh(harness, VIP, Protocol.UDP)


def assert_not_mesh(harness: ChooseHarness, destination: SocketAddress, protocol: Protocol) -> None:
    got = harness.choose(destination, protocol, is_ipv6_socket=True, draws=[0] * DRAWS)
    assert got.reason == Reason.NOT_MESH, destination
