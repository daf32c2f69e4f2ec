"""The elements of each dump: what they are called, and how each looks as JSON and as text.

No I/O but for what the view's iterables read. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from kmesh.bridge.outline import outline
from kmesh.bridge.view import AcceptedResource
from kmesh.compiler import Compilation, print_unit
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.compiler.routes.unit import print_host
from kmesh.maps.decode import Names, describe_record, name_units, print_record
from kmesh.maps.image import MapImage, MapName, Record
from kmesh.model.plain import to_plain
from kmesh.model.snapshot import Snapshot
from kmesh.xds.plain import resource_to_plain

__all__ = [
    "MAP_TYPES",
    "MODEL_TYPES",
    "UNIT_TYPES",
    "Element",
    "RecordElement",
    "ResourceElement",
    "UnitElement",
    "ValueElement",
    "list_records",
    "list_units",
    "list_values",
]

UNIT_TYPES = ("listener", "virtual host", "cluster")
_MODEL = {
    "listener": "listeners",
    "route_config": "route_configs",
    "cluster": "clusters",
    "assignment": "assignments",
    "waiting": "waiting",
}
"""The element types of a snapshot and the Snapshot fields that hold them."""

MODEL_TYPES = tuple(_MODEL)
_SHOWN_MAPS = tuple(reversed(MapName))  # what refers before what it refers to, as a reader follows a connection
MAP_TYPES = tuple(name.value for name in _SHOWN_MAPS)


class Element(Protocol):
    """One thing of a dump."""

    @property
    def type(self) -> str: ...

    def is_named(self, text: str) -> bool:
        """Whether `text` is in what the element is called."""
        ...

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        ...

    def lines(self) -> Iterable[str]:
        """For people, without line ends; elements of several lines end with an empty one."""
        ...


@dataclass(frozen=True, slots=True)
class ResourceElement:
    """An xDS resource as it came."""

    resource: AcceptedResource

    @property
    def type(self) -> str:
        return self.resource.type_name

    def is_named(self, text: str) -> bool:
        return text in self.resource.name

    def plain(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "name": self.resource.name,
            "version": self.resource.version,
            "resource": resource_to_plain(self.resource.type_url, self.resource.body),
        }

    def lines(self) -> Iterator[str]:
        yield f"{self.type} {self.resource.name}"
        plain = self.plain()
        yield from outline({"version": plain["version"], **plain["resource"]}, "  ")
        yield ""


@dataclass(frozen=True, slots=True)
class ValueElement:
    """A value of the model, under its key in the snapshot."""

    type: str
    name: str
    value: object

    def is_named(self, text: str) -> bool:
        return text in self.name

    def plain(self) -> dict[str, Any]:
        return {"type": self.type, "name": self.name, "value": to_plain(self.value)}

    def lines(self) -> Iterator[str]:
        yield f"{self.type} {self.name}"
        plain = to_plain(self.value, has_defaults=False)
        yield from outline(plain if isinstance(plain, dict) else {"for": plain}, "  ")
        yield ""


@dataclass(frozen=True, slots=True)
class UnitElement:
    """A unit of the compiler's intermediate form."""

    type: str
    name: str
    print: Callable[[], str]

    def is_named(self, text: str) -> bool:
        return text in self.name

    def plain(self) -> dict[str, Any]:
        return {"type": self.type, "name": self.name, "text": self.print()}

    def lines(self) -> Iterator[str]:
        yield from self.print().splitlines()
        yield ""


@dataclass(frozen=True, slots=True)
class RecordElement:
    """An element of a kernel map. `units` are the listeners and clusters it was compiled from, as far as known."""

    map_name: MapName
    key: bytes
    value: bytes
    names: Names
    units: tuple[str, ...]

    @property
    def type(self) -> str:
        return self.map_name.value

    def is_named(self, text: str) -> bool:
        return any(text in unit for unit in self.units) or any(text in line for line in self.lines())

    def plain(self) -> dict[str, Any]:
        return {"type": self.type, **self._describe()}

    def lines(self) -> Iterator[str]:
        for number, line in enumerate(print_record(self.map_name, self._describe())):
            yield line if number else f"{self.type} {line}"

    def _describe(self) -> dict[str, Any]:
        return describe_record(self.map_name, self.key, self.value, self.names)


def list_values(snapshot: Snapshot) -> Iterator[ValueElement]:
    for kind, held_in in _MODEL.items():
        for name, value in getattr(snapshot, held_in).items():
            yield ValueElement(kind, name, value)


def list_units(compilation: Compilation) -> Iterator[UnitElement]:
    """Listeners, the virtual hosts that they lead to, and clusters."""
    for listener in compilation.program.listeners:
        yield UnitElement("listener", listener.name, partial(print_unit, listener))
    for routing in compilation.routings.values():
        for host in routing.hosts.values():
            yield UnitElement("virtual host", host.host.name, partial(print_host, routing, host))
    for cluster in compilation.program.clusters:
        yield UnitElement("cluster", cluster.name, partial(print_unit, cluster))


def list_records(
    records: Iterable[Record], image: MapImage, compilation: Compilation, *, has_units: bool
) -> Iterator[RecordElement]:
    """Sorted, each once, named by `image` and `compilation`. `has_units` looks up units, which takes memory."""
    tables: dict[MapName, dict[bytes, bytes]] = {name: {} for name in _SHOWN_MAPS}
    for map_name, key, value in records:
        tables[map_name][key] = value
    units = _find_units(image) if has_units else {}
    names = Names(units=name_units(image), backends=tables[MapName.BACKEND], fields=_name_fields(compilation))
    for map_name, table in tables.items():
        for key in sorted(table):
            yield RecordElement(map_name, key, table[key], names, units.get((map_name, key), ()))


def _name_fields(compilation: Compilation) -> Mapping[int, str]:
    """The headers and query parameters that routes look at, by their ids in records."""
    names: dict[int, str] = {}
    for unit in compilation.routings.values():
        names |= {header_field(name): f"header {name}" for name in unit.names.headers}
        names |= {parameter_field(name): f"parameter {name}" for name in unit.names.parameters}
    return names


def _find_units(image: MapImage) -> Mapping[tuple[MapName, bytes], tuple[str, ...]]:
    units: dict[tuple[MapName, bytes], tuple[str, ...]] = {}
    for (_, name), fragment in image.fragments.items():
        for map_name, key, _ in fragment.records():
            units[map_name, key] = (*units.get((map_name, key), ()), name)
    return units
