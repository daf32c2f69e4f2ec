"""A directory of configuration files: read it, check it, and notice when it changes.

Files are the `*.yaml`, `*.yml` and `*.json` directly in the directory, in the order of their names; names that begin
with a dot are left out (editors' temporary files, and the `..data` of a Kubernetes ConfigMap, whose files are links
in the directory itself). Each holds what Envoy's file subscription reads:

    resources:
    - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
      name: shop
      ...

Changes are found by comparing what stat(2) says, which sees renames and switched links alike.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kmesh.errors import ConfigError
from kmesh.xds.server.any_types import AnyTypes
from kmesh.xds.server.catalog import Catalog, Resource, type_name
from kmesh.xds.server.documents import parse_json, parse_yaml

__all__ = ["ConfigDir", "follow"]

POLL_S = 0.5
SETTLE_S = 0.05
"""The files must have stopped changing for this long: one may have been caught while it was written."""
SETTLE_TRIES = 40
"""After so many, what is there is read; whatever changes later is read again."""

_PARSERS = {".json": parse_json, ".yaml": parse_yaml, ".yml": parse_yaml}
_KEYS = {"resources", "version_info"}
_PREAMBLE = re.compile(r"^(Failed to parse \w+ field: )+")
_TYPES = AnyTypes()

_Signature = tuple[int, ...]

log = logging.getLogger(__name__)


class ConfigDir:
    """Blocking file access: call it from a thread where an event loop runs. Parses again only what has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[Path, _Signature] | None = None
        self._parsed: dict[Path, tuple[_Signature, list[Resource]]] = {}

    def read(self) -> Catalog:
        """Raises ConfigError, naming the file and the resource or field."""
        self._seen = self._settle()
        if not self._seen:
            raise ConfigError(f"{self._path} has no .yaml, .yml or .json file: put the resources to serve into one")
        self._parsed = {path: self._parse(path, signature) for path, signature in self._seen.items()}
        catalog = _join({path: resources for path, (_, resources) in self._parsed.items()})
        for name in catalog.find_missing_assignments():
            log.warning("no ClusterLoadAssignment %r: its cluster has no endpoints, and Envoy waits for them", name)
        return catalog

    def read_if_changed(self) -> Catalog | None:
        """None when no file has changed since the last reading, successful or not. Raises ConfigError."""
        return None if self._scan() == self._seen else self.read()

    def _settle(self) -> dict[Path, _Signature]:
        now = self._scan()
        for _ in range(SETTLE_TRIES):
            before = now
            time.sleep(SETTLE_S)
            now = self._scan()
            if now == before:
                break
        return now

    def _scan(self) -> dict[Path, _Signature]:
        try:
            paths = sorted(p for p in self._path.iterdir() if p.suffix in _PARSERS and not p.name.startswith("."))
            return {path: _sign(path) for path in paths}
        except OSError as e:
            raise ConfigError(f"cannot read {e.filename}: {e.strerror}") from e

    def _parse(self, path: Path, signature: _Signature) -> tuple[_Signature, list[Resource]]:
        known = self._parsed.get(path)
        return known if known and known[0] == signature else (signature, parse_file(path))


async def follow(directory: ConfigDir, publish: Callable[[Catalog], None]) -> None:
    """Publish every change of a directory that has been read once. Runs until cancelled.

    What cannot be read is logged, once, and what was published last stays.
    """
    refused = ""
    while True:
        await asyncio.sleep(POLL_S)
        try:
            catalog = await asyncio.to_thread(directory.read_if_changed)
        except ConfigError as e:
            if str(e) != refused:
                refused = str(e)
                log.error("configuration refused, the last good one stays: %s", e)
            continue
        if catalog is not None:
            refused = ""
            log.info("configuration changed: %d resources", len(catalog))
            publish(catalog)


def parse_file(path: Path) -> list[Resource]:
    """The resources of one file. Raises ConfigError."""
    try:
        document = _PARSERS[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{path} is not valid {path.suffix[1:].upper()}: {e}") from e
    if not isinstance(document, dict) or not isinstance(document.get("resources"), list):
        raise ConfigError(f'{path} has no list named "resources"')
    if unknown := document.keys() - _KEYS:
        raise ConfigError(f'{path} has {min(map(str, unknown))!r} beside "resources", which is not known')
    return [_decode(path, index, entry) for index, entry in enumerate(document["resources"])]


def _decode(path: Path, index: int, entry: Any) -> Resource:
    where = f"{path}: resources[{index}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("@type"), str):
        raise ConfigError(f'{where} has no "@type"')
    name = entry.get("name") or entry.get("cluster_name")
    where += f" {name!r}" if isinstance(name, str) else ""
    try:
        return Resource.pack(_to_message(entry))
    except (json_format.ParseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        # json_format lets some malformed values through to whatever they then break.
        raise ConfigError(f"{where}: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    """json_format's first line (the next lists every field there is), without its account of how it got there."""
    line = str(error).partition("\n")[0] or type(error).__name__
    return _PREAMBLE.sub("", line).rstrip(".")


def _to_message(entry: dict[str, Any]) -> Message:
    full_name = entry["@type"].rpartition("/")[2]
    try:
        descriptor = _TYPES.FindMessageTypeByName(full_name)
    except KeyError:
        raise ValueError(f'"@type" {entry["@type"]!r} is not a known message type') from None
    body = {key: value for key, value in entry.items() if key != "@type"}
    return json_format.ParseDict(body, GetMessageClass(descriptor)(), descriptor_pool=cast(DescriptorPool, _TYPES))


def _join(files: dict[Path, list[Resource]]) -> Catalog:
    """Raises ConfigError when two resources of one type have one name, naming both files."""
    origin: dict[tuple[str, str], Path] = {}
    for path, resources in files.items():
        for r in resources:
            key = (r.packed.type_url, r.name)
            if key in origin:
                raise ConfigError(f"{path}: {type_name(key[0])} {r.name!r} is already given in {origin[key]}")
            origin[key] = path
    return Catalog.of(r for resources in files.values() for r in resources)


def _sign(path: Path) -> _Signature:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
