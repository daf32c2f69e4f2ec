"""What the admin API may see of a running bridge: plain frozen values, and the protocol that gives them.

No I/O, no gRPC; knows nothing of who computes the values. Field names are those of api/kmesh/admin/v1/admin.proto,
which kmesh.bridge.admin relies on. Times are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kmesh.compiler import Compilation
from kmesh.maps.image import MapImage, Record
from kmesh.model.limitation import Effect
from kmesh.model.snapshot import Snapshot
from kmesh.xds.status import AdsStatus

__all__ = [
    "AcceptedResource",
    "ApplyView",
    "BridgeView",
    "CountView",
    "LimitationView",
    "MapView",
    "NamespaceView",
    "OutcomeView",
    "PoolView",
    "ProgramView",
    "RelayView",
    "SnapshotView",
    "StatusView",
    "VersionView",
    "WaitingView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    kmesh: str
    python: str
    kernel: str
    """Release of the running kernel."""
    instance: str
    pid: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingView:
    """A resource held back by warming, and what it waits for."""

    resource: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    """How much is served now."""

    listeners: int
    route_configs: int
    clusters: int
    endpoints: int
    waiting: tuple[WaitingView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyView:
    """The last time configuration went to the kernel."""

    image_digest: str = ""
    """Of the image that the kernel holds; "" before the first."""
    at: datetime | None = None
    operations: int = 0
    """Map elements written and deleted."""
    duration_s: float = 0.0
    error: str = ""
    """Why the newest configuration is not the one served; "" when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramView:
    name: str
    id: int
    tag: str
    """Hex."""
    cgroups: tuple[str, ...]
    """Paths it is attached to."""
    verified_instructions: int
    loaded_at: datetime
    runs_by: str = ""
    """The map whose sockets run it, or through which other programs call it; "" for one of cgroups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    name: str
    used: int
    max_entries: int
    bytes: int
    """Memory that the kernel charges for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """How many connects and datagrams ended for one reason since the programs were first loaded."""

    reason: str
    """Name of a kmesh.records.constants.Reason, in lower case."""
    is_refusal: bool
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitationView:
    """One feature that is asked for and not done, and every resource that asks for it."""

    feature: str
    effect: Effect
    consequence: str
    """The effect in words, without capital or full stop."""
    resources: tuple[str, ...]
    """As "listener NAME" or "cluster NAME", once each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How often something happened for one reason since the relay started."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """Upstream connections to one cluster, made from one network namespace."""

    cluster: str
    namespace: int
    """Its cookie."""
    idle: int
    """Offered to the kernel."""
    bound: int
    """To a client's connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceView:
    """A network namespace of the enrolled cgroups."""

    cookie: int
    acceptors: tuple[str, ...]
    """Addresses at which its clients reach the relay; none: their connections are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayView:
    """The process that carries what the kernel hands over. Counts are since it started."""

    pid: int = 0
    """0 when none runs."""
    started_at: datetime | None = None
    error: str = ""
    """Why none runs, or why it does not answer; "" when it does."""
    clients: int = 0
    """Connections of clients that it holds now."""
    kernel_exchanges: int = 0
    """That the kernel carried whole."""
    relayed: tuple[CountView, ...] = ()
    """Exchanges that the relay carried or answered, by why they were its."""
    dial_failures: tuple[CountView, ...] = ()
    """Connections to endpoints that could not be made, by why."""
    untold: int = 0
    """Events that found the kernel's buffer full, since the maps were made. What they were about was looked up."""
    pools: tuple[PoolView, ...] = ()
    namespaces: tuple[NamespaceView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    bridge: VersionView
    cgroups: tuple[str, ...]
    """Paths of the enrolled cgroups."""
    xds: AdsStatus
    serves_last_good: bool
    """What is served was read from disk, and no control plane has confirmed it since this bridge started."""
    snapshot: SnapshotView
    apply: ApplyView
    programs: tuple[ProgramView, ...]
    maps: tuple[MapView, ...]
    outcomes: tuple[OutcomeView, ...]
    limitations: tuple[LimitationView, ...]
    relay: RelayView | None = None
    """None where there is nothing for it to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedResource:
    """One resource as the control plane sent it. `type_name` is the short one ("LDS")."""

    type_name: str
    type_url: str
    name: str
    version: str
    body: bytes


class BridgeView(Protocol):
    """A running bridge, as the admin API asks it.

    Each method is called in the event loop and returns at once, but for `relay`. The iterables are consumed later, in
    a worker thread and piece by piece, so they may only read what no longer changes, or the kernel.
    """

    def version(self) -> VersionView: ...

    def status(self) -> StatusView:
        """Without the relay's part."""
        ...

    async def relay(self) -> RelayView | None:
        """What the relay says of itself, or why it says nothing, within seconds; None as in StatusView."""
        ...

    def accepted(self) -> Iterable[AcceptedResource]:
        """The accepted resources of every type."""
        ...

    def snapshot(self) -> Snapshot:
        """What is served now."""
        ...

    def compilation(self) -> Compilation:
        """What the compiler made of it."""
        ...

    def image(self) -> MapImage:
        """What the kernel should hold."""
        ...

    def kernel_records(self) -> Iterable[Record]:
        """What the kernel does hold, read from the maps. Raises: MapError, while it is consumed."""
        ...
