"""The maps themselves: adoption, growth without loss, refusal as a whole, roll-back."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kmesh.errors import CapacityExceeded, MapError
from kmesh.kernel.features import probe_features
from kmesh.kernel.tables import KernelTables, create_tables
from kmesh.maps.apply import Applier
from kmesh.maps.image import MapImage, MapName
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action, Reason
from tests.kernel.conftest import Kernel, open_kernel
from tests.support.records import backend, cluster, cursor_node, frontend, image, key64
from tests.support.sandbox import Sandbox


def services(count: int, port: int = 80) -> MapImage:
    """`count` services of one backend each, through a cluster."""
    fragments = {}
    for i in range(count):
        number, record = backend(SocketAddress.parse(f"10.0.{i >> 8}.{i & 255}", port))
        cluster_id, cell = cluster(f"c{i}", Action.BACKEND, number)
        vip = SocketAddress.parse(f"10.96.{i >> 8}.{i & 255}", 80)
        fragments[f"s{i}"] = [record, cell, frontend(vip, Action.CLUSTER, cluster_id)]
    return image(**fragments)


def held(tables: KernelTables) -> dict[MapName, dict[bytes, bytes]]:
    return {name: tables.read(name) for name in MapName}


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """An instance for this module alone: its tests open the same maps several times over."""
    with Sandbox() as sandbox:
        yield open_kernel(sandbox, probe_features())


@pytest.fixture
def tables(kernel: Kernel) -> KernelTables:
    """Fresh descriptors of maps that hold nothing."""
    tables = KernelTables(kernel.build.maps_dir)
    Applier(tables).apply(image())
    tables.operations.clear()
    return tables


def test_maps_that_are_there_are_not_made_anew(kernel: Kernel, tables: KernelTables) -> None:
    Applier(tables).apply(services(10))
    (kernel.build.maps_dir / MapName.CURSOR.value).unlink()
    create_tables(kernel.build.maps_dir)
    assert held(KernelTables(kernel.build.maps_dir)) == services(10).tables()


def test_growth_keeps_everything(tables: KernelTables) -> None:
    applier = Applier(tables)
    for count in (10, 1000, 5000):
        applier.apply(services(count))
        assert held(tables) == services(count).tables()
    assert tables.capacity(MapName.FRONTEND) >= 5000


def test_shrinking_gives_memory_back(tables: KernelTables) -> None:
    applier = Applier(tables)
    applier.apply(services(5000))
    grown = tables.capacity(MapName.BACKEND)
    applier.apply(services(3))
    assert tables.capacity(MapName.BACKEND) < grown
    assert held(tables) == services(3).tables()


def test_deletes_what_it_is_asked_to_and_nothing_else(tables: KernelTables) -> None:
    """In batches of any size, whatever else the process allocates meanwhile."""
    for count in range(1, 60):
        items = [(key64(number), bytes(8)) for number in range(2 * count)]
        tables.reserve({MapName.CURSOR: len(items)})
        tables.upsert(MapName.CURSOR, items, len(items))
        tables.delete(MapName.CURSOR, [key for key, _ in items[::2]])
        assert tables.read(MapName.CURSOR).keys() == {key for key, _ in items[1::2]}
        tables.delete(MapName.CURSOR, [key for key, _ in items])
        assert tables.used(MapName.CURSOR) == len(tables.read(MapName.CURSOR)) == 0


def test_a_restart_adopts_and_writes_nothing(tables: KernelTables) -> None:
    Applier(tables).apply(services(300))
    successor = KernelTables(tables.maps_dir)
    applied = Applier(successor).apply(services(300))
    assert (applied.upserts, applied.deletes) == (0, 0)
    assert not successor.operations


def test_a_restart_repairs_what_is_wrong(tables: KernelTables) -> None:
    Applier(tables).apply(services(300))
    victim = next(iter(services(300).tables()[MapName.FRONTEND]))
    tables.delete(MapName.FRONTEND, [victim])
    stray = frontend(SocketAddress.parse("10.97.0.1", 80), Action.REFUSE, int(Reason.BLACKHOLE))
    tables.upsert(MapName.FRONTEND, [stray[1:]], 1)
    applied = Applier(KernelTables(tables.maps_dir)).apply(services(300))
    assert (applied.upserts, applied.deletes) == (1, 1)
    assert held(tables) == services(300).tables()


def test_a_map_that_cannot_grow_refuses_the_image_as_a_whole(kernel: Kernel, tables: KernelTables) -> None:
    limited = KernelTables(kernel.build.maps_dir, limits={MapName.CLUSTER: 256})
    applier = Applier(limited)
    applier.apply(services(100))
    with pytest.raises(CapacityExceeded) as caught:
        applier.apply(services(300))
    assert (caught.value.map_name, caught.value.needed, caught.value.limit) == ("km_cluster", 300, 256)
    assert held(limited) == services(100).tables()
    assert applier.image == services(100)
    applier.apply(services(200))
    assert held(limited) == services(200).tables()


def test_the_kernel_refusing_a_larger_map_is_a_capacity_error(kernel: Kernel, monkeypatch) -> None:
    """A real refusal: no kernel preallocates two thousand million elements."""
    tables = KernelTables(kernel.build.maps_dir, limits={MapName.FRONTEND: 1 << 32})
    applier = Applier(tables)
    applier.apply(refusals(10))
    monkeypatch.setattr("kmesh.kernel.tables._round_up", lambda count: 1 << 31)
    with pytest.raises(CapacityExceeded):
        applier.apply(refusals(1000))
    assert held(tables) == refusals(10).tables()


def refusals(count: int) -> MapImage:
    cells = (SocketAddress.parse(f"10.98.{i >> 8}.{i & 255}", 80) for i in range(count))
    return image(all=[frontend(address, Action.REFUSE, int(Reason.NO_ENDPOINT)) for address in cells])


class FailingTables(KernelTables):
    """Fails the first write of one map, as a kernel out of memory would."""

    fails_at: MapName | None = None

    def upsert(self, name: MapName, items: Sequence[tuple[bytes, bytes]], added: int) -> None:
        if name is self.fails_at and items:
            self.fails_at = None
            super().upsert(name, items[: len(items) // 2], 0)
            raise MapError(name.value, "update", errno.ENOMEM)
        super().upsert(name, items, added)


@pytest.mark.parametrize("name", [MapName.BACKEND, MapName.CLUSTER, MapName.FRONTEND], ids=lambda name: name.value)
def test_a_failed_write_leaves_the_old_image_in_force(kernel: Kernel, tables: KernelTables, name: MapName) -> None:
    failing = FailingTables(kernel.build.maps_dir)
    applier = Applier(failing)
    applier.apply(services(20, port=80))
    failing.fails_at = name
    with pytest.raises(MapError):
        applier.apply(services(30, port=81))
    wanted = services(20, port=80).tables()
    got = held(failing)
    for cell in (MapName.CLUSTER, MapName.FRONTEND):
        assert got[cell] == wanted[cell]
    assert wanted[MapName.BACKEND].items() <= got[MapName.BACKEND].items()
    applier.apply(services(30, port=81))
    assert held(failing) == services(30, port=81).tables()


def test_a_map_that_cannot_shrink_stays_large(tables: KernelTables, monkeypatch) -> None:
    applier = Applier(tables)
    applier.apply(services(2000))
    capacity = tables.capacity(MapName.BACKEND)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOMEM, "no memory for another map")

    monkeypatch.setattr("kmesh.kernel.bpf.create_map", refuse)
    applier.apply(services(3))
    assert applier.image == services(3)
    assert held(tables) == services(3).tables()
    assert tables.capacity(MapName.BACKEND) == capacity


class StubbornTables(KernelTables):
    """Fails the next deletion of one map, having done half of it."""

    keeps: MapName | None = None

    def delete(self, name: MapName, keys: Sequence[bytes]) -> None:
        if name is self.keeps and keys:
            self.keeps = None
            super().delete(name, keys[: len(keys) // 2])
            raise MapError(name.value, "delete", errno.EBUSY)
        super().delete(name, keys)


@pytest.mark.parametrize("name", [MapName.CLUSTER, MapName.BACKEND], ids=lambda name: name.value)
def test_leftovers_do_not_undo_an_apply_and_go_with_the_next(kernel: Kernel, tables, name: MapName) -> None:
    stubborn = StubbornTables(kernel.build.maps_dir)
    applier = Applier(stubborn)
    applier.apply(services(20))
    stubborn.keeps = name
    applier.apply(services(10))
    assert applier.image == services(10)
    assert held(stubborn)[MapName.FRONTEND] == services(10).tables()[MapName.FRONTEND]
    assert len(stubborn.read(name)) == 15
    applier.apply(services(10))
    assert held(stubborn) == services(10).tables()


class WatchedTables(KernelTables):
    """Notes the order of deletions and fences."""

    def __init__(self, maps_dir: Path) -> None:
        super().__init__(maps_dir)
        self.order: list[str] = []

    def delete(self, name: MapName, keys: Sequence[bytes]) -> None:
        if keys:
            self.order.append(name.value)
        super().delete(name, keys)

    def fence(self) -> None:
        self.order.append("fence")
        super().fence()


def test_no_program_reads_what_is_deleted_nor_its_memory_when_it_is_used_again(kernel: Kernel, tables) -> None:
    watched = WatchedTables(kernel.build.maps_dir)
    applier = Applier(watched)
    applier.apply(services(2))
    watched.order.clear()
    applier.apply(services(1))
    assert watched.order == ["km_frontend", "fence", "km_cluster", "km_backend", "fence"]


def test_one_endpoint_costs_the_same_in_any_mesh(tables: KernelTables) -> None:
    """Counted map operations for one changed backend: its record in, its cell over, the old record out."""
    got = {}
    for count in (10, 1000, 4000):
        applier = Applier(tables)
        before = services(count)
        applier.apply(before)
        after = dict(before.fragments) | {("test", "s3"): changed_service()}
        tables.operations.clear()
        applier.apply(MapImage(fragments=after))
        got[count] = dict(tables.operations)
    want = {(MapName.BACKEND, "upsert"): 1, (MapName.CLUSTER, "upsert"): 1, (MapName.BACKEND, "delete"): 1}
    assert got == {10: want, 1000: want, 4000: want}


def changed_service():
    number, record = backend(SocketAddress.parse("10.1.1.1", 80))
    cluster_id, cell = cluster("c3", Action.BACKEND, number)
    vip = SocketAddress.parse("10.96.0.3", 80)
    return image(s3=[record, cell, frontend(vip, Action.CLUSTER, cluster_id)]).fragments["test", "s3"]


def test_cursors_keep_counting_over_growth_and_restart(tables: KernelTables) -> None:
    _, records = cursor_node("rr", [1, 2])
    applier = Applier(tables)
    applier.apply(image(rr=records))
    seeded = tables.read(MapName.CURSOR)
    merged = MapImage(fragments={**services(2000).fragments, **image(rr=records).fragments})
    applier.apply(merged)
    Applier(KernelTables(tables.maps_dir)).apply(merged)
    assert tables.read(MapName.CURSOR) == seeded
