"""The map image: every record the kernel should hold, as bytes, grouped by what produced it.

An image is made of *fragments*, one for each unit of configuration (a listener, a cluster). Unchanged units keep
the same Fragment object from one image to the next, which is what makes a diff cost what changed and not what is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

__all__ = ["EMPTY", "Fragment", "MapImage", "MapName", "Record", "merge_tables"]


class MapName(Enum):
    """The kernel maps that configuration fills. Values are their names in the kernel and in reports.

    Listed referents first: a record refers only to records of its own map or of maps above it, but for the
    frontends, nodes and routes that name a cluster by id.
    """

    BACKEND = "km_backend"
    CURSOR = "km_cursor"
    NODE = "km_node"
    CLUSTER = "km_cluster"
    PAGE = "km_page"
    ROUTE = "km_route"
    DECISION = "km_decision"
    DOMAIN = "km_domain"
    INDEX = "km_index"
    ROUTES = "km_routes"
    ROUTING = "km_routing"
    FRONTEND = "km_frontend"

    __hash__ = object.__hash__  # members are singletons, and Enum's own hash costs more than the dict it is for

    @property
    def is_cell(self) -> bool:
        """Replaced in place under a stable key; the other maps hold records that never change."""
        return self in (MapName.CLUSTER, MapName.ROUTING, MapName.FRONTEND)


Record = tuple[MapName, bytes, bytes]
"""(map, key, value). CURSOR values are only the first value: the kernel counts on from there."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """The records of one unit. Two fragments may hold the same immutable record, never the same cell."""

    tables: Mapping[MapName, Mapping[bytes, bytes]]
    """{map: {key: value}}; maps without a record may be left out."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> Fragment:
        tables: dict[MapName, dict[bytes, bytes]] = {}
        for name, key, value in records:
            tables.setdefault(name, {})[key] = value
        return cls(tables)

    def records(self) -> Iterator[Record]:
        """In the order of `tables`."""
        for name, table in self.tables.items():
            for key, value in table.items():
                yield name, key, value


@dataclass(frozen=True, slots=True)
class MapImage:
    """`fragments` by unit: ("cluster", name), ("listener", name)."""

    fragments: Mapping[tuple[str, str], Fragment]

    def records(self) -> Iterator[Record]:
        """Every record; immutable ones shared by several fragments come once for each."""
        for fragment in self.fragments.values():
            yield from fragment.records()

    def tables(self) -> dict[MapName, dict[bytes, bytes]]:
        """The image as the kernel holds it: {map: {key: value}}."""
        return merge_tables(self.fragments.values())

    def digest(self) -> str:
        """Hex digest of the tables, independent of order and of how units were grouped."""
        h = blake2b(digest_size=16)
        for name, table in self.tables().items():
            h.update(f"{name.value}:{len(table)}\n".encode())
            for key in sorted(table):
                h.update(key)
                h.update(table[key])
        return h.hexdigest()


def merge_tables(fragments: Iterable[Fragment]) -> dict[MapName, dict[bytes, bytes]]:
    """The records of all of them together, with a (possibly empty) row for every map."""
    out: dict[MapName, dict[bytes, bytes]] = {name: {} for name in MapName}
    for fragment in fragments:
        for name, table in fragment.tables.items():
            out[name].update(table)
    return out


EMPTY = MapImage(fragments={})
