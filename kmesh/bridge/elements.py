"""The elements of each dump: what they are called, and how each looks as JSON and as text.

No I/O but for what the view's iterables read. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kmesh.bridge.outline import outline
from kmesh.bridge.view import AcceptedResource
from kmesh.compiler.ir import ClusterUnit, ListenerUnit, Program, ToRoutes, leaves
from kmesh.compiler.printer import print_unit
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.maps.decode import Names, describe_record, name_units, print_record
from kmesh.maps.image import MapImage, MapName, Record
from kmesh.model.plain import to_plain
from kmesh.model.snapshot import Snapshot
from kmesh.xds.plain import resource_to_plain

__all__ = [
    "MAP_TYPES",
    "MODEL_TYPES",
    "Element",
    "RecordElement",
    "ResourceElement",
    "UnitElement",
    "ValueElement",
    "list_records",
    "list_values",
]

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

    unit: ListenerUnit | ClusterUnit

    @property
    def type(self) -> str:
        return "listener" if isinstance(self.unit, ListenerUnit) else "cluster"

    def is_named(self, text: str) -> bool:
        return text in self.unit.name

    def plain(self) -> dict[str, Any]:
        return {"type": self.type, "name": self.unit.name, "text": print_unit(self.unit)}

    def lines(self) -> Iterator[str]:
        yield from print_unit(self.unit).splitlines()
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


def list_records(
    records: Iterable[Record], image: MapImage, program: Program, *, has_units: bool
) -> Iterator[RecordElement]:
    """Sorted, each once. `image` and `program` give the names; `has_units` looks up the units, which takes memory."""
    tables: dict[MapName, dict[bytes, bytes]] = {name: {} for name in _SHOWN_MAPS}
    for map_name, key, value in records:
        tables[map_name][key] = value
    units = _find_units(image) if has_units else {}
    names = Names(units=name_units(image), backends=tables[MapName.BACKEND], fields=_name_fields(program))
    for map_name, table in tables.items():
        for key in sorted(table):
            yield RecordElement(map_name, key, table[key], names, units.get((map_name, key), ()))


def _name_fields(program: Program) -> Mapping[int, str]:
    """The headers and query parameters that routes look at, by their ids in records."""
    choices = (leaf for unit in program.listeners for frontend in unit.frontends for leaf in leaves(frontend.choice))
    configs = {choice.routing.name: choice.routing.config for choice in choices if isinstance(choice, ToRoutes)}
    hosts = (host for config in configs.values() for host in config.virtual_hosts)
    names: dict[int, str] = {}
    for match in (route.match for host in hosts for route in host.routes):
        names |= {header_field(header.name): f"header {header.name}" for header in match.headers}
        names |= {parameter_field(query.name): f"parameter {query.name}" for query in match.query_parameters}
    return names


def _find_units(image: MapImage) -> Mapping[tuple[MapName, bytes], tuple[str, ...]]:
    units: dict[tuple[MapName, bytes], tuple[str, ...]] = {}
    for (_, name), fragment in image.fragments.items():
        for map_name, key, _ in fragment.records():
            units[map_name, key] = (*units.get((map_name, key), ()), name)
    return units
