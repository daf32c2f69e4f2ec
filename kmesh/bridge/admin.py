"""The admin API of a running bridge: gRPC over a Unix socket, and nothing but translation.

The only importer of the generated API on the bridge's side. What it answers comes from a BridgeView.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import betterproto2
from grpclib import GRPCError
from grpclib.const import Status as Code
from grpclib.server import Server

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.bridge import view as views
from kmesh.bridge.dump import DumpFormat, DumpKind, cut, dump
from kmesh.bridge.health import find_problems
from kmesh.bridge.unix_socket import listening_at
from kmesh.compiler.explain import explain
from kmesh.compiler.routes.unit import RoutingUnit
from kmesh.compiler.semantics import Request
from kmesh.errors import ConfigError, KmeshError
from kmesh.model.address import SocketAddress
from kmesh.model.limitation import Effect
from kmesh.model.snapshot import Snapshot
from kmesh.relay.replace_regex import replace_regex
from kmesh.xds.status import AdsStatus, StreamState, TypeStatus

__all__ = ["serve_admin", "to_status"]

T = TypeVar("T")

_CHUNK_CHARACTERS = 1 << 16
_CLOSE_TIMEOUT_S = 2.0

_MESSAGES: dict[type, type[betterproto2.Message]] = {
    AdsStatus: pb.Xds,
    TypeStatus: pb.ResourceType,
    views.ApplyView: pb.Apply,
    views.CountView: pb.Count,
    views.LimitationView: pb.Limitation,
    views.MapView: pb.Map,
    views.NamespaceView: pb.Namespace,
    views.OutcomeView: pb.Outcome,
    views.PoolView: pb.Pool,
    views.ProgramView: pb.Program,
    views.RelayView: pb.Relay,
    views.SnapshotView: pb.Snapshot,
    views.StatusView: pb.Status,
    views.VersionView: pb.Version,
    views.WaitingView: pb.Waiting,
}
_ENUMS: dict[type, type[betterproto2.Enum]] = {StreamState: pb.StreamState, Effect: pb.Effect}
_KINDS = {pb.DumpKind[kind.name]: kind for kind in DumpKind}
_FORMATS = {pb.DumpFormat[form.name]: form for form in DumpFormat}


@asynccontextmanager
async def serve_admin(view: views.BridgeView, path: Path) -> AsyncIterator[None]:
    """Serve the admin API at `path` for as long as the context is open.

    Raises: ConfigError when `path` cannot be served, see kmesh.bridge.unix_socket.
    """
    with listening_at(path) as listener:
        server = Server([_Admin(view)])
        await server.start(sock=listener)
        try:
            yield
        finally:
            server.close()
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await server.wait_closed()


class _Admin(pb.AdminBase):
    """The service of admin.proto."""

    def __init__(self, view: views.BridgeView) -> None:
        self._view = view

    async def get_version(self, message: pb.GetVersionRequest) -> pb.Version:
        return _answer(self._version)

    async def get_status(self, message: pb.GetStatusRequest) -> pb.Status:
        relay = await self._view.relay()
        return _answer(lambda: to_status(replace(self._view.status(), relay=relay)))

    async def dump(self, message: pb.DumpRequest) -> AsyncIterator[pb.DumpChunk]:
        chunks = _answer(lambda: self._dump(message))
        # In a thread, so that rendering never delays the xDS stream; one chunk at a time, at the reader's pace.
        while text := await asyncio.to_thread(_answer, lambda: next(chunks, "")):
            yield pb.DumpChunk(text=text)

    async def explain(self, message: pb.ExplainRequest) -> pb.Explanation:
        snapshot, routings = self._view.snapshot(), self._view.compilation().routings
        return await asyncio.to_thread(_answer, lambda: _explain(snapshot, routings, message))

    def _version(self) -> pb.Version:
        answer: pb.Version = _to_message(self._view.version())
        return answer

    def _dump(self, asked: pb.DumpRequest) -> Iterator[str]:
        if asked.kind not in _KINDS or asked.format not in _FORMATS:
            raise ConfigError("this bridge knows no such dump: kmeshctl may be newer than the bridge")
        pieces = dump(self._view, _KINDS[asked.kind], _FORMATS[asked.format], name=asked.name, of_type=asked.type)
        return cut(pieces, _CHUNK_CHARACTERS)


def _answer(ask: Callable[[], T]) -> T:
    """What `ask` returns; errors of ours as gRPC statuses that carry their sentence."""
    try:
        return ask()
    except ConfigError as error:
        raise GRPCError(Code.INVALID_ARGUMENT, str(error)) from error
    except KmeshError as error:
        raise GRPCError(Code.INTERNAL, str(error)) from error


def _explain(snapshot: Snapshot, routings: Mapping[str, RoutingUnit], asked: pb.ExplainRequest) -> pb.Explanation:
    try:
        destination = SocketAddress.parse(asked.address, asked.port)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    request = Request(
        method=asked.method,
        target=asked.target,
        headers=tuple((header.name, header.value) for header in asked.headers),
    )
    explanation = explain(snapshot, destination, request, routings=routings, replace_regex=replace_regex)
    return pb.Explanation(json=json.dumps(explanation.to_plain()))


def to_status(status: views.StatusView) -> pb.Status:
    """The whole answer to GetStatus."""
    message: pb.Status = _to_message(status, problems=list(find_problems(status)), xds=_to_xds(status.xds))
    return message


def _to_xds(xds: AdsStatus) -> Any:
    types = [
        _to_message(item, rejected=[pb.Rejected(name=name, reason=reason) for name, reason in item.rejected])
        for item in xds.types
    ]
    return _to_message(xds, types=types)


def _to_message(view: Any, **ready: object) -> Any:
    """The message of a view, field by field: their names are the same. Fields in `ready` need no translation."""
    names = {field.name for field in fields(view)} - ready.keys()
    return _MESSAGES[type(view)](**{name: _to_value(getattr(view, name)) for name in names}, **ready)


def _to_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_value(item) for item in value]
    if isinstance(value, Enum):
        return _ENUMS[type(value)][value.name]
    return _to_message(value) if is_dataclass(value) else value
