"""kmesh.bridge.admin: real gRPC over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path

import pytest
from grpclib import GRPCError
from grpclib.client import Channel
from grpclib.const import Status as Code

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.bridge import admin
from kmesh.bridge.admin import serve_admin
from kmesh.bridge.health import find_problems
from kmesh.bridge.view import AcceptedResource, StatusView
from kmesh.errors import ConfigError, MapError
from kmesh.maps.image import Fragment, MapImage, Record
from kmesh.model.address import SocketAddress
from tests.support.records import backend
from tests.support.sample_bridge import CLUSTER_TYPE_URL, SampleBridge, degraded_status, healthy_status

RECORDS = 100_000


def peak_memory() -> int:
    """The most that this process had resident since the last reset, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def reset_peak_memory() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # Linux Documentation/filesystems/proc.rst
    return peak_memory()


async def ask(view: SampleBridge, path: Path, request: object) -> object:
    """One unary answer."""
    async with serve_admin(view, path), asyncio.timeout(10), Channel(path=str(path)) as channel:
        stub = pb.AdminStub(channel)
        method = stub.get_version if isinstance(request, pb.GetVersionRequest) else stub.get_status
        return await method(request)


async def read_dump(view: SampleBridge, path: Path, request: pb.DumpRequest) -> list[str]:
    """The chunks."""
    async with serve_admin(view, path), asyncio.timeout(20), Channel(path=str(path)) as channel:
        return [chunk.text async for chunk in pb.AdminStub(channel).dump(request)]


@pytest.mark.parametrize("view, message", admin._MESSAGES.items(), ids=lambda kind: kind.__name__)
def test_views_and_messages_have_the_same_fields(view: type, message: type) -> None:
    computed = {"problems"} if view is StatusView else set()
    assert {f.name for f in fields(message)} - computed == {f.name for f in fields(view)}


def test_version(tmp_path: Path) -> None:
    want = healthy_status().bridge
    got = asyncio.run(ask(SampleBridge(), tmp_path / "a.sock", pb.GetVersionRequest()))
    assert isinstance(got, pb.Version)
    assert [getattr(got, f.name) for f in fields(want)] == [getattr(want, f.name) for f in fields(want)]


@pytest.mark.parametrize("status", [healthy_status(), degraded_status()], ids=["healthy", "degraded"])
def test_status_arrives_whole(tmp_path: Path, status: StatusView) -> None:
    got = asyncio.run(ask(SampleBridge(answer=status), tmp_path / "a.sock", pb.GetStatusRequest()))
    assert isinstance(got, pb.Status)
    assert tuple(got.problems) == find_problems(status)
    assert got.xds.state.name == status.xds.state.name
    assert got.xds.next_attempt_at == status.xds.next_attempt_at
    assert [item.subscribed for item in got.xds.types] == [item.subscribed for item in status.xds.types]
    assert [len(item.rejected) for item in got.xds.types] == [len(item.rejected) for item in status.xds.types]
    assert got.snapshot.endpoints == status.snapshot.endpoints
    assert [tuple(item.missing) for item in got.snapshot.waiting] == [w.missing for w in status.snapshot.waiting]
    assert got.apply.duration_s == status.apply.duration_s
    assert [tuple(item.cgroups) for item in got.programs] == [item.cgroups for item in status.programs]
    assert [(item.reason, item.count) for item in got.outcomes] == [(o.reason, o.count) for o in status.outcomes]
    assert [item.effect.name for item in got.limitations] == [item.effect.name for item in status.limitations]


def test_socket_is_the_owners(tmp_path: Path) -> None:
    async def look() -> int:
        async with serve_admin(SampleBridge(), tmp_path / "a.sock"):
            return stat.S_IMODE((tmp_path / "a.sock").stat().st_mode)

    assert asyncio.run(look()) == 0o600


def test_second_bridge_is_refused(tmp_path: Path) -> None:
    async def serve_twice() -> None:
        async with serve_admin(SampleBridge(), tmp_path / "a.sock"), serve_admin(SampleBridge(), tmp_path / "a.sock"):
            pass

    with pytest.raises(ConfigError, match="another bridge already serves"):
        asyncio.run(serve_twice())


@pytest.mark.parametrize("kind", [kind for kind in pb.DumpKind if kind], ids=lambda kind: kind.name)
def test_every_dump_in_both_formats(tmp_path: Path, kind: pb.DumpKind) -> None:
    records = (backend(SocketAddress.parse("10.1.0.1", 80))[1],)
    view = SampleBridge(should=MapImage({("cluster", "c"): Fragment.of(records)}), does=records)
    text = asyncio.run(read_dump(view, tmp_path / "a", pb.DumpRequest(kind=kind, format=pb.DumpFormat.TEXT)))
    document = asyncio.run(read_dump(view, tmp_path / "b", pb.DumpRequest(kind=kind, format=pb.DumpFormat.JSON)))
    elements = json.loads("".join(document))
    assert elements
    assert all(element["type"] in "".join(text) for element in elements)


@pytest.mark.parametrize(
    "request_, code, want",
    [
        pytest.param(
            pb.DumpRequest(kind=pb.DumpKind.MAPS, format=pb.DumpFormat.TEXT, type="km_nodes"),
            Code.INVALID_ARGUMENT,
            "no type 'km_nodes': choose one of km_frontend, km_routing",
            id="unknown type",
        ),
        pytest.param(pb.DumpRequest(), Code.INVALID_ARGUMENT, "knows no such dump", id="no kind"),
        pytest.param(
            pb.DumpRequest(kind=pb.DumpKind.MAPS, format=pb.DumpFormat.TEXT),
            Code.INTERNAL,
            "lookup on map km_node: Operation not permitted",
            id="map that cannot be read",
        ),
    ],
)
def test_errors_carry_their_sentence(tmp_path: Path, request_: pb.DumpRequest, code: Code, want: str) -> None:
    def unreadable() -> Iterator[Record]:
        raise MapError("km_node", "lookup", 1)
        yield

    with pytest.raises(GRPCError) as caught:
        asyncio.run(read_dump(SampleBridge(does=unreadable()), tmp_path / "a.sock", request_))
    assert caught.value.status is code
    assert want in (caught.value.message or "")


def test_a_dump_of_any_size_takes_bounded_memory(tmp_path: Path) -> None:
    """100,000 records of 40 MB of text: what is held at once is an index of them and a few chunks."""
    name = "outbound|80||" + "n" * 300
    addresses = (SocketAddress(number.to_bytes(16, "big"), 80) for number in range(RECORDS))
    records = tuple(backend(address, cluster_name=name)[1] for address in addresses)
    view = SampleBridge(should=MapImage({("cluster", name): Fragment.of(records)}))
    request = pb.DumpRequest(kind=pb.DumpKind.IMAGE, format=pb.DumpFormat.JSON)
    lines = size = 0

    async def count() -> None:
        nonlocal lines, size
        path = tmp_path / "a.sock"
        async with serve_admin(view, path), asyncio.timeout(60), Channel(path=str(path)) as channel:
            async for chunk in pb.AdminStub(channel).dump(request):
                assert len(chunk.text) <= 1 << 16
                lines += chunk.text.count("\n")
                size += len(chunk.text)

    before = reset_peak_memory()
    asyncio.run(count())
    peak = peak_memory() - before
    assert lines == RECORDS + 2
    assert size > 40_000_000
    assert peak < 24 << 20


def test_a_slow_reader_makes_the_bridge_wait(tmp_path: Path) -> None:
    """Elements are rendered as the reader takes them, never all at once into a buffer."""
    rendered = 0

    class Large(SampleBridge):
        def accepted(self) -> Iterator[AcceptedResource]:
            nonlocal rendered
            for number in range(RECORDS):
                rendered += 1
                yield AcceptedResource(
                    type_name="CDS", type_url=CLUSTER_TYPE_URL, name=f"c{number}", version="1", body=b"\n\x01c"
                )

    async def read_one_chunk() -> None:
        path = tmp_path / "a.sock"
        request = pb.DumpRequest(kind=pb.DumpKind.XDS, format=pb.DumpFormat.JSON)
        async with (
            serve_admin(Large(), path),
            asyncio.timeout(20),
            Channel(path=str(path)) as channel,
            aclosing(pb.AdminStub(channel).dump(request)) as chunks,
        ):
            await anext(chunks)
            await asyncio.sleep(0.5)

    asyncio.run(read_one_chunk())
    assert 0 < rendered < RECORDS // 2
