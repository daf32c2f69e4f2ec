"""A BridgeView of real dataclasses: a small mesh in good health, and the same one in trouble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from kmesh.bridge.summary import view_outcomes, view_snapshot
from kmesh.bridge.view import (
    AcceptedResource,
    ApplyView,
    CountView,
    LimitationView,
    MapView,
    NamespaceView,
    PoolView,
    ProgramView,
    RelayView,
    StatusView,
    VersionView,
)
from kmesh.compiler.compiler import Compilation, Compiler
from kmesh.maps.image import EMPTY, MapImage, Record
from kmesh.model.address import SocketAddress
from kmesh.model.cluster import Cluster, Discovery
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Health, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect
from kmesh.model.listener import FilterChain, Listener, TcpProxy, WeightedCluster
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Reason
from kmesh.xds.status import AdsStatus, StreamState, TypeStatus

__all__ = ["CLUSTER_TYPE_URL", "NOW", "SampleBridge", "degraded_status", "healthy_status", "sample_snapshot"]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CLUSTER_TYPE_URL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

_CGROUP = "/sys/fs/cgroup/kubepods.slice"
_BOOTED = timedelta(hours=3, minutes=12, seconds=30)


def sample_snapshot() -> Snapshot:
    proxy = TcpProxy(clusters=(WeightedCluster("reviews-v1", 90), WeightedCluster("reviews-v2", 10)))
    locality = LocalityEndpoints(
        locality=Locality("eu", "a"),
        endpoints=(
            Endpoint(SocketAddress.parse("10.1.0.1", 8080)),
            Endpoint(SocketAddress.parse("2001:db8::1", 8080), weight=3, health=Health.UNHEALTHY),
        ),
    )
    listener = Listener(
        name="default/reviews",
        addresses=(SocketAddress.parse("10.0.0.1", 80),),
        filter_chains=(FilterChain(network=proxy),),
    )
    return Snapshot(
        listeners={listener.name: listener},
        clusters={name: Cluster(name=name, discovery=Discovery.EDS) for name in ("reviews-v1", "reviews-v2")},
        assignments={"reviews-v1": ClusterLoadAssignment(name="reviews-v1", localities=(locality,))},
        waiting={"cluster ratings": ("endpoints ratings",)},
    )


def sample_resources() -> tuple[AcceptedResource, ...]:
    cluster = cluster_pb2.Cluster(name="reviews-v1")
    cluster.typed_extension_protocol_options["acme.options"].CopyFrom(
        AnyMessage(type_url="type.googleapis.com/acme.v1.Unheard", value=b"\x08\x01")
    )
    cluster.connect_timeout.FromMilliseconds(250)
    body = cluster.SerializeToString()
    row = AcceptedResource(type_name="CDS", type_url=CLUSTER_TYPE_URL, name="reviews-v1", version="7", body=body)
    return (row,)


def healthy_status(now: datetime = NOW, instance: str = "default") -> StatusView:
    started = now - _BOOTED
    loaded = started + timedelta(seconds=1)
    return StatusView(
        bridge=VersionView(
            kmesh="0.1.0", python="3.11.2", kernel="6.1.0-18-amd64", instance=instance, pid=4711, started_at=started
        ),
        cgroups=(_CGROUP,),
        xds=AdsStatus(
            server="istiod.istio-system:15012",
            variant="delta",
            state=StreamState.CONNECTED,
            connected_since=loaded,
            last_error="",
            last_error_at=None,
            attempts=0,
            next_attempt_at=None,
            types=tuple(
                _type(name, count) for name, count in (("LDS", 210), ("RDS", 12), ("CDS", 1204), ("EDS", 1180))
            ),
        ),
        serves_last_good=False,
        snapshot=replace(view_snapshot(sample_snapshot()), listeners=210, endpoints=12040, waiting=()),
        apply=ApplyView(
            image_digest="3f2a90c1d2e3f4a53f2a90c1d2e3f4a5",
            at=now - timedelta(seconds=12),
            operations=14,
            duration_s=0.0012,
        ),
        programs=tuple(
            ProgramView(
                name=name,
                id=number,
                tag=f"{number:016x}",
                cgroups=(_CGROUP,),
                verified_instructions=1234,
                loaded_at=loaded,
            )
            for number, name in ((41, "km_connect4"), (42, "km_connect6"), (43, "km_getpeername4"))
        ),
        maps=(
            MapView(name="km_backend", used=12040, max_entries=16384, bytes=1573000),
            MapView(name="km_frontend", used=210, max_entries=256, bytes=20480),
            MapView(name="km_cursor", used=0, max_entries=1, bytes=600),
        ),
        outcomes=view_outcomes({Reason.NOT_MESH: 991, Reason.BALANCED: 12345, Reason.FLOW: 0}),
        limitations=(),
        relay=RelayView(
            pid=4712,
            started_at=loaded,
            clients=1,
            kernel_exchanges=405975,
            relayed=(CountView(reason="action", count=1200), CountView(reason="framing", count=34)),
            pools=tuple(PoolView(cluster=f"reviews-v{n}", namespace=4242, idle=4, bound=n) for n in range(1, 13)),
            namespaces=(NamespaceView(cookie=4242, acceptors=("127.0.0.1:15001", "[::1]:15001")),),
        ),
    )


def degraded_status(now: datetime = NOW, instance: str = "default") -> StatusView:
    """Everything wrong that can be wrong at once, but for a missing program."""
    status = healthy_status(now, instance)
    reason = "lb_policy: RING_HASH without hash_policy on the route; " * 9
    types = list(status.xds.types)
    types[2] = replace(
        types[2],
        is_rejected=True,
        last_nack=f"Cluster 'outbound|80||{'x' * 90}' at {reason}",
        last_nack_at=now - timedelta(seconds=75),
        rejected=(("outbound|80||a", reason), ("outbound|80||b", reason)),
    )
    types[3] = replace(types[3], last_nack="ClusterLoadAssignment 'a': too old", last_nack_at=now - timedelta(days=2))
    listeners = tuple(f"listener 0.0.0.0_{port}" for port in range(8080, 8098))
    return replace(
        status,
        xds=replace(
            status.xds,
            state=StreamState.BACKING_OFF,
            connected_since=None,
            last_error="connection refused by 10.0.0.9:15012",
            last_error_at=now - timedelta(seconds=4),
            attempts=12,
            next_attempt_at=now + timedelta(seconds=8),
            types=tuple(types),
        ),
        serves_last_good=True,
        snapshot=view_snapshot(sample_snapshot()),
        relay=RelayView(
            error="it ended with status 1, next start in 8 s",
            dial_failures=(CountView(reason="connection refused", count=3),),
            untold=1204,
            namespaces=(NamespaceView(cookie=4242, acceptors=()),),
        ),
        apply=replace(status.apply, error="map km_node needs 70,000 entries and can hold 65,536"),
        programs=(*status.programs[:2], replace(status.programs[2], cgroups=())),
        outcomes=(*status.outcomes, *view_outcomes({Reason.NO_ENDPOINT: 3, Reason.UNSUPPORTED: 1204})),
        limitations=(
            LimitationView(
                feature="routes that differ by path",
                effect=Effect.REFUSED,
                consequence="its connections are refused",
                resources=listeners,
            ),
            LimitationView(
                feature="tls_context",
                effect=Effect.REFUSED,
                consequence="its connections are refused",
                resources=("cluster " + "long-name." * 20,),
            ),
            LimitationView(
                feature="circuit_breakers",
                effect=Effect.UNENFORCED,
                consequence="its connections are routed as configured, without this",
                resources=("cluster reviews-v1", "cluster reviews-v2"),
            ),
        ),
    )


def _type(name: str, resources: int) -> TypeStatus:
    return TypeStatus(
        name=name,
        type_url=f"type.googleapis.com/{name}",
        version="2026-03-01T08:48:01Z/142",
        nonce=f"{name.lower()}-5f0c3d2e1a",
        resources=resources,
        subscribed=None if name in ("LDS", "CDS") else resources,
        responses=142,
        is_rejected=False,
        last_nack="",
        last_nack_at=None,
        rejected=(),
    )


@dataclass
class SampleBridge:
    """Answers what it was made of."""

    answer: StatusView = field(default_factory=healthy_status)
    held: Snapshot = field(default_factory=sample_snapshot)
    should: MapImage = EMPTY
    does: Iterable[Record] = ()

    def version(self) -> VersionView:
        return self.answer.bridge

    def status(self) -> StatusView:
        return self.answer

    async def relay(self) -> RelayView | None:
        return self.answer.relay

    def accepted(self) -> Iterator[AcceptedResource]:
        return iter(sample_resources())

    def snapshot(self) -> Snapshot:
        return self.held

    def compilation(self) -> Compilation:
        return Compiler().compile(self.held)

    def image(self) -> MapImage:
        return self.should

    def kernel_records(self) -> Iterable[Record]:
        return self.does
