"""The bridge: xDS in, kernel maps out, and an API to look inside. Composition and tasks; every decision is elsewhere.

    AdsClient ─update─► Intake ─snapshot─► Compiler ─image─► DataPlane
    DnsClusters ─assignment─┘                 └─reports──► Bridge (a BridgeView) ─► admin API

Updates enter at once, in the event loop; compiling and applying run in a thread, always on the newest snapshot, so a
burst of updates is compiled once and a slow apply delays neither the stream nor the API.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import kmesh
from kmesh.bridge.admin import serve_admin
from kmesh.bridge.data_plane import DataPlane
from kmesh.bridge.dns_clusters import DnsClusters
from kmesh.bridge.intake import Intake
from kmesh.bridge.relay_configuration import RelayConfigurationWriter
from kmesh.bridge.relay_process import RelayCommand, RelayProcess
from kmesh.bridge.relay_status import view_relay
from kmesh.bridge.resolver import Resolver
from kmesh.bridge.settings import Settings
from kmesh.bridge.state import SavedState, StateWriter, read_state
from kmesh.bridge.summary import view_limitations, view_outcomes, view_snapshot
from kmesh.bridge.tls import build_ssl_context
from kmesh.bridge.view import AcceptedResource, RelayView, StatusView, VersionView
from kmesh.compiler.compiler import Compilation, Compiler
from kmesh.compiler.ir import Program
from kmesh.maps.image import EMPTY, MapImage, Record
from kmesh.model.address import HostAddress
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.snapshot import Snapshot
from kmesh.relay.configuration import CONFIGURATION_FILE
from kmesh.relay.control import RelayUnreachable, fetch_status, reload_relay
from kmesh.xds.client import AdsClient, AdsConfig, Variant
from kmesh.xds.resources import ALL
from kmesh.xds.server.catalog import Catalog
from kmesh.xds.server.config_dir import ConfigDir, follow
from kmesh.xds.server.serve import AdsServer

__all__ = ["Bridge", "ConfigFiles", "read_config_files", "run_bridge"]

_log = logging.getLogger(__name__)
_RELAY_ANSWERS_S = 5.0
_RELAY_STARTS_S = 5.0
_RELAY_POLL_S = 0.05
_NOTHING = Compilation(image=EMPTY, program=Program())


class Bridge:
    """Implements kmesh.bridge.view.BridgeView over its parts."""

    def __init__(self, settings: Settings, data_plane: DataPlane, server: HostAddress | Path) -> None:
        self._settings = settings
        self._data_plane = data_plane
        self._started_at = datetime.now(UTC)
        saved = read_state(settings.state_dir)
        self._intake = Intake(saved)
        prepare_socket = data_plane.own_sockets.mark
        resolver = Resolver(prepare_socket)
        self._dns = DnsClusters(resolver, self._take_resolved, last_found=saved.addresses if saved else None)
        self._client = AdsClient(
            _ads_config(settings, server), ALL, resolve=resolver.resolve_host, prepare_socket=prepare_socket
        )
        self._writer = StateWriter(settings.state_dir, self._take_state)
        self._relay_writer = RelayConfigurationWriter(settings.state_dir)
        self._relay_process = RelayProcess(_relay_command(settings, data_plane))
        self._needs_relay = asyncio.Event()
        self._compiler = Compiler()
        self._changed = asyncio.Event()
        self._served = Snapshot()
        self._compilation = _NOTHING
        if self._intake.serves_last_good:
            _log.warning("serving_last_good", extra={"written_at": _utc(saved.written_at if saved else 0.0)})

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve_snapshots())
            tasks.create_task(self._run_relay())
            tasks.create_task(self._dns.run())
            tasks.create_task(self._client.run())
            tasks.create_task(self._writer.run())
            self._dns.watch(self._intake.dns_clusters)
            self._changed.set()
            async for update in self._client.updates():
                self._intake.take(update)
                self._after_intake()

    # From updates to the kernel

    def _take_resolved(self, name: str, assignment: ClusterLoadAssignment) -> None:
        self._intake.take_resolved(name, assignment)
        self._note_change()

    def _after_intake(self) -> None:
        for type_url, names in self._intake.wanted.items():
            self._client.subscribe(type_url, names)
        self._dns.watch(self._intake.dns_clusters)
        self._note_change()

    def _note_change(self) -> None:
        if self._intake.is_complete:
            self._writer.mark_changed()
        self._changed.set()

    async def _serve_snapshots(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            snapshot = self._intake.snapshot()
            if snapshot is not None and snapshot is not self._served:
                self._served = snapshot
                self._compilation = await asyncio.to_thread(self._compiler.compile, snapshot)
                if await self._tell_relay(self._compilation):
                    await asyncio.to_thread(self._data_plane.apply, self._compilation.image)

    async def _tell_relay(self, compilation: Compilation) -> bool:
        """Before the kernel hands anything over by the new image; False where the relay cannot learn of it."""
        try:
            is_new = await asyncio.to_thread(self._relay_writer.write, compilation)
        except OSError as error:
            self._data_plane.refuse(f"the relay's configuration cannot be written to --state-dir ({error.strerror})")
            return False
        if is_new and compilation.routings:
            self._needs_relay.set()
            await self._reload_relay()
        return True

    async def _reload_relay(self) -> None:
        """Or wait until it has started, which comes to the same. Not for ever: it reads the file when it starts."""
        deadline = time.monotonic() + _RELAY_STARTS_S
        while True:
            try:
                return await reload_relay(self._settings.relay_dir, _RELAY_ANSWERS_S)
            except RelayUnreachable as error:
                if time.monotonic() >= deadline:
                    _log.warning("relay_not_told", extra={"reason": str(error)})
                    return
            await asyncio.sleep(_RELAY_POLL_S)

    async def _run_relay(self) -> None:
        """From the first configuration that needs it."""
        await self._needs_relay.wait()
        await self._relay_process.run()

    def _take_state(self) -> SavedState:
        resources = {
            type_url: {name: (accepted.version, accepted.raw) for name, accepted in rows.items()}
            for type_url, rows in self._client.resources().items()
        }
        return SavedState(resources=resources, addresses=self._dns.found())

    # BridgeView

    def version(self) -> VersionView:
        return VersionView(
            kmesh=kmesh.__version__,
            python=platform.python_version(),
            kernel=os.uname().release,
            instance=self._settings.instance,
            pid=os.getpid(),
            started_at=self._started_at,
        )

    def status(self) -> StatusView:
        return StatusView(
            bridge=self.version(),
            cgroups=self._data_plane.cgroups,
            xds=self._client.status(),
            serves_last_good=self._intake.serves_last_good,
            snapshot=view_snapshot(self._served),
            apply=self._data_plane.applied,
            programs=self._data_plane.programs(),
            maps=self._data_plane.maps(),
            outcomes=view_outcomes(self._data_plane.outcomes()),
            limitations=view_limitations(self._compilation.reports),
        )

    async def relay(self) -> RelayView | None:
        if not self._compilation.routings:
            return None
        try:
            status = await fetch_status(self._settings.relay_dir, _RELAY_ANSWERS_S)
        except RelayUnreachable as error:
            found = self._relay_process.id
            return RelayView(pid=found.pid if found else 0, error=self._relay_process.error or str(error))
        return view_relay(status, self._compilation.upstreams)

    def accepted(self) -> Iterator[AcceptedResource]:
        held = self._client.resources()
        return (
            AcceptedResource(
                type_name=kind.name, type_url=kind.type_url, name=name, version=accepted.version, body=accepted.raw
            )
            for kind in ALL
            for name, accepted in held.get(kind.type_url, {}).items()
        )

    def snapshot(self) -> Snapshot:
        return self._served

    def compilation(self) -> Compilation:
        return self._compilation

    def image(self) -> MapImage:
        return self._compilation.image

    def kernel_records(self) -> Iterator[Record]:
        return self._data_plane.kernel_records()


def _ads_config(settings: Settings, server: HostAddress | Path) -> AdsConfig:
    return AdsConfig(
        server=server,
        variant=Variant(settings.xds_variant),
        node_id=settings.node_id,
        node_cluster=settings.node_cluster,
        node_metadata=settings.node_metadata,
        tls=partial(build_ssl_context, settings) if settings.tls else None,
        server_name=settings.tls_server_name or "",
        token_file=settings.token_file,
    )


def _relay_command(settings: Settings, data_plane: DataPlane) -> RelayCommand:
    return RelayCommand(
        maps_dir=data_plane.build.maps_dir,
        configuration=settings.state_dir / CONFIGURATION_FILE,
        runtime_dir=settings.relay_dir,
        cgroups=tuple(map(Path, data_plane.cgroups)),
        log_format=settings.log_format,
        log_level=settings.log_level,
    )


def _utc(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """A --config-dir, and what it held when it was first read."""

    directory: ConfigDir
    catalog: Catalog


def read_config_files(settings: Settings) -> ConfigFiles | None:
    """None where there is a server to connect to. Raises: ConfigError."""
    if settings.config_dir is None:
        return None
    directory = ConfigDir(settings.config_dir)
    return ConfigFiles(directory, directory.read())


async def run_bridge(settings: Settings, data_plane: DataPlane, files: ConfigFiles | None) -> None:
    """Everything up, until cancelled; `files` are those of `settings`. Raises: ConfigError."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_control_plane(settings, files))
        bridge = Bridge(settings, data_plane, server)
        await stack.enter_async_context(serve_admin(bridge, settings.api_socket))
        _log.info("bridge_started", extra={"instance": settings.instance, "xds_server": str(server)})
        await bridge.run()


@asynccontextmanager
async def _control_plane(settings: Settings, files: ConfigFiles | None) -> AsyncIterator[HostAddress | Path]:
    """Where to reach it; with --config-dir it runs here for as long as the context is open."""
    if files is None:
        assert settings.xds_server is not None
        yield settings.xds_server
        return
    async with AdsServer(files.catalog, settings.api_socket.with_suffix(".xds")) as server:
        follower = asyncio.create_task(follow(files.directory, server.publish))
        try:
            yield server.address
        finally:
            follower.cancel()
            await asyncio.wait({follower})
