"""The kernel side of one bridge: opened once, given images, asked for its state.

Blocking system calls; the bridge calls `apply` in a thread. Knows nothing of xDS.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kmesh.bridge.view import ApplyView, MapView, ProgramView
from kmesh.errors import CapacityExceeded, MapError
from kmesh.kernel.features import probe_features
from kmesh.kernel.hooks import DELIVERED, MAP_HOOKS, STEPS
from kmesh.kernel.mounts import require_bpffs, require_cgroups
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import Build, attach, attached_programs, load, remove_stale
from kmesh.kernel.sockets import OutcomeCounters, OwnSockets
from kmesh.kernel.tables import KernelTables
from kmesh.maps.apply import Applier
from kmesh.maps.image import MapImage, MapName, Record
from kmesh.records.constants import Reason

__all__ = ["DataPlane"]

_log = logging.getLogger(__name__)


class DataPlane:
    """Programs loaded and pinned, maps open; attached from the first applied image on.

    A restart finds links attached already: they keep serving what the maps hold.
    """

    def __init__(self, bpffs: Path, instance: str, cgroups: tuple[Path, ...]) -> None:
        """Raises: KernelError, in one sentence with the remedy."""
        features = probe_features()
        require_bpffs(bpffs)
        self._cgroups = require_cgroups(cgroups)
        self._paths = InstancePaths(bpffs=bpffs, instance=instance)
        self._build = load(self._paths, features)
        self._tables = KernelTables(self._build.maps_dir)
        self._applier = Applier(self._tables)
        self._counters = OutcomeCounters(self._build.maps_dir)
        self._is_attached = False
        self._applied = ApplyView()
        self.own_sockets = OwnSockets(self._build.maps_dir)
        _log.info("programs_ready", extra={"adopted": self._build.was_adopted, "cgroups": self.cgroups})

    @property
    def build(self) -> Build:
        return self._build

    @property
    def cgroups(self) -> tuple[str, ...]:
        return tuple(map(str, self._cgroups))

    @property
    def applied(self) -> ApplyView:
        """The last apply; its error tells why the newest image is not the one in force."""
        if not self._applied.image_digest and self._applied.at:
            self._applied = replace(self._applied, image_digest=self.image.digest())
        return self._applied

    @property
    def image(self) -> MapImage:
        """In force, as far as this process applied it."""
        return self._applier.image

    def apply(self, image: MapImage) -> bool:
        """Put the image in force, whole or not at all; False, with the reason in `applied`, when it was refused."""
        try:
            done = self._applier.apply(image)
        except (CapacityExceeded, MapError) as error:
            self.refuse(str(error))
            return False
        self._attach()
        # The digest costs the whole image: it is computed when somebody asks.
        self._applied = ApplyView(
            at=datetime.now(UTC),
            operations=done.upserts + done.deletes,
            duration_s=done.total_s,
        )
        _log.info(
            "image_applied",
            extra={
                "upserts": done.upserts,
                "deletes": done.deletes,
                "effective_ms": round(done.effective_s * 1000, 3),
                "total_ms": round(done.total_s * 1000, 3),
            },
        )
        return True

    def refuse(self, reason: str) -> None:
        """Tell in `applied` why the newest image is not put in force."""
        self._applied = replace(self._applied, error=reason)
        _log.error("image_refused", extra={"reason": reason})

    def kernel_records(self) -> Iterator[Record]:
        """What the maps hold now."""
        for name in MapName:
            for key, value in self._tables.read(name).items():
                yield name, key, value

    def outcomes(self) -> dict[Reason, int]:
        return self._counters.read()

    def programs(self) -> tuple[ProgramView, ...]:
        booted_at = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        attached = attached_programs(self._cgroups)
        return tuple(
            ProgramView(
                name=name,
                id=info.id,
                tag=info.tag,
                cgroups=tuple(str(cgroup) for cgroup in self._cgroups if info.id in attached[cgroup]),
                verified_instructions=info.verified_insns,
                loaded_at=booted_at + timedelta(microseconds=info.load_time_ns / 1000),
                runs_by={**MAP_HOOKS, **STEPS, DELIVERED: ("the relay", 0)}.get(name, ("", 0))[0],
            )
            for name, info in self._build.program_infos().items()
        )

    def maps(self) -> tuple[MapView, ...]:
        return tuple(
            MapView(
                name=name.value,
                used=self._tables.used(name),
                max_entries=self._tables.capacity(name),
                bytes=self._tables.memory_bytes(name),
            )
            for name in reversed(MapName)
        )

    def close(self) -> None:
        """Close descriptors; everything pinned goes on serving."""
        self._tables.close()
        self._counters.close()
        self.own_sockets.close()

    def _attach(self) -> None:
        if self._is_attached:
            return
        changed = attach(self._paths, self._build, self._cgroups)
        removed = remove_stale(self._paths, self._build)
        self._is_attached = True
        _log.info("programs_attached", extra={"links_changed": changed, "generations_removed": len(removed)})
