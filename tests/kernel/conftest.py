"""The real kernel, once for all tests of this folder: one sandbox, one build, attached to its `pods` cgroup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kmesh.kernel.features import Features, probe_features
from kmesh.kernel.mounts import require_bpffs
from kmesh.kernel.paths import InstancePaths
from kmesh.kernel.programs import Build, attach, load
from kmesh.kernel.sockets import OutcomeCounters, OwnSockets
from kmesh.kernel.tables import KernelTables
from kmesh.maps.apply import Applier
from kmesh.records.constants import Reason
from tests.support.sandbox import BPFFS, Sandbox


@dataclass(frozen=True)
class Kernel:
    sandbox: Sandbox
    paths: InstancePaths
    build: Build
    tables: KernelTables
    applier: Applier
    counters: OutcomeCounters
    own: OwnSockets

    def count(self, reason: Reason) -> int:
        return self.counters.read()[reason]


def open_kernel(sandbox: Sandbox, features: Features) -> Kernel:
    require_bpffs(BPFFS)
    paths = InstancePaths(bpffs=BPFFS, instance=sandbox.instance)
    build = load(paths, features)
    attach(paths, build, [sandbox.pods])
    tables = KernelTables(build.maps_dir)
    return Kernel(
        sandbox=sandbox,
        paths=paths,
        build=build,
        tables=tables,
        applier=Applier(tables),
        counters=OutcomeCounters(build.maps_dir),
        own=OwnSockets(build.maps_dir),
    )


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())


@pytest.fixture(scope="session")
def old_kernel() -> Iterator[Kernel]:
    """The programs as built where bpf_set_retval() is missing (Linux before 5.18)."""
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, Features(has_set_retval=False))
