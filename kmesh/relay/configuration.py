"""What the relay goes by, as the bridge tells it: where requests go, and what is to be known of clusters.

One file, a fixed header and a body in msgpack, always replaced whole. It is written before the image that needs it is
in force, and read when the bridge says so and when the relay starts; so a relay needs no bridge. It holds the model's
own objects (kmesh.model.codec). They are this version's: the header says by a digest what their fields are, and one
that was written by another version is refused, and written anew by the bridge that belongs to the relay.

A virtual host that is in use already is known by a digest of its bytes, and is the same object again: reading costs
what changed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgpack

from kmesh.compiler.ir import Routing
from kmesh.errors import ConfigError
from kmesh.model.cluster import DEFAULT_CONNECT_TIMEOUT_S
from kmesh.model.codec import codec_of, describe
from kmesh.model.route import VirtualHost
from kmesh.relay.host_index import HostIndex

__all__ = ["CONFIGURATION_FILE", "ClusterOptions", "Configuration", "read_configuration", "write_configuration"]

CONFIGURATION_FILE = "relay.msgpack"
"""In the bridge's state directory."""
_MAGIC = b"kmesh\0rl"
_HEADER = struct.Struct("<8s16s16s")  # magic, digest of the types, digest of the body

_in_use: WeakValueDictionary[bytes, VirtualHost] = WeakValueDictionary()
"""By digest of what was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    id: int
    """Of its cell (name_id of "cluster")."""
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    is_http2_only: bool = False
    """Envoy would speak HTTP/2 to it whatever the client speaks, and nothing here does."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    routings: Mapping[int, Routing] = field(default_factory=dict)
    """By kmesh.compiler.routes.unit.routing_id."""
    clusters: Mapping[str, ClusterOptions] = field(default_factory=dict)
    """By name, those that exist."""

    @cached_property
    def hosts(self) -> Mapping[int, HostIndex]:
        """For each routing."""
        return {number: HostIndex(routing.config) for number, routing in self.routings.items()}


def write_configuration(path: Path, configuration: Configuration) -> int:
    """Replace the file, readable by its owner only. Returns its size in bytes.

    Not synced: what is in the kernel does not survive a power failure either. Raises: OSError, and then the file that
    was there is whole.
    """
    body: bytes = msgpack.packb(_to_plain(configuration))
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(_HEADER.pack(_MAGIC, describe(Configuration), _digest(body)))
        file.write(body)
    temporary.replace(path)
    return _HEADER.size + len(body)


def read_configuration(path: Path) -> Configuration:
    """An empty one where there is no file. Raises: ConfigError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Configuration()
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}): the bridge writes it") from None
    if len(content) < _HEADER.size or content[: len(_MAGIC)] != _MAGIC:
        raise _unusable(path, "it is no configuration of the relay, or only the beginning of one")
    _, types, digest = _HEADER.unpack_from(content)
    if types != describe(Configuration):
        raise _unusable(path, "another version of kmesh wrote it")
    body = memoryview(content)[_HEADER.size :]
    if digest != _digest(body):
        raise _unusable(path, "it is truncated or damaged: its digest does not match its content")
    return _from_plain(msgpack.unpackb(body, strict_map_key=False))


def _to_plain(configuration: Configuration) -> list[Any]:
    """[{routing id: [the routing without its virtual hosts, [each of them, packed]]}, clusters]."""
    routings, host = codec_of(Routing), codec_of(VirtualHost)
    return [
        {
            number: [
                routings.encode(replace(routing, config=replace(routing.config, virtual_hosts=()))),
                [msgpack.packb(host.encode(held)) for held in routing.config.virtual_hosts],
            ]
            for number, routing in configuration.routings.items()
        },
        codec_of(Mapping[str, ClusterOptions]).encode(configuration.clusters),
    ]


def _from_plain(plain: Any) -> Configuration:
    routings, clusters = plain
    return Configuration(
        routings={number: _read_routing(*held) for number, held in routings.items()},
        clusters=codec_of(Mapping[str, ClusterOptions]).decode(clusters),
    )


def _read_routing(plain: Any, hosts: list[bytes]) -> Routing:
    routing: Routing = codec_of(Routing).decode(plain)
    return replace(routing, config=replace(routing.config, virtual_hosts=tuple(map(_read_host, hosts))))


def _read_host(packed: bytes) -> VirtualHost:
    digest = _digest(packed)
    found = _in_use.get(digest)
    if found is None:
        found = _in_use[digest] = codec_of(VirtualHost).decode(msgpack.unpackb(packed))
    return found


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path} cannot be used, {reason}: start the bridge of this version, which writes it anew")


def _digest(body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=16).digest()
