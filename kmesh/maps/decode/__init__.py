"""Reads records for people: one map element in, a description of plain values or a few lines of text out.

Pure. An action, kind or reason that has no name is shown as its number, because a dump is asked for when something
is wrong. What the records look like is in kmesh.records.layout.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.maps.decode import connections, requests
from kmesh.maps.decode.naming import Description, Names, name_units
from kmesh.maps.image import MapName

__all__ = ["Description", "Names", "describe_record", "name_units", "print_record"]


def describe_record(map_name: MapName, key: bytes, value: bytes, names: Names) -> Description:
    """One element, decoded."""
    match map_name:
        case MapName.FRONTEND:
            return connections.describe_frontend(key, value, names)
        case MapName.CLUSTER:
            return connections.describe_cluster(key, value, names)
        case MapName.NODE:
            return connections.describe_node(key, value, names)
        case MapName.BACKEND:
            return connections.describe_backend(key, value, names)
        case MapName.CURSOR:
            return connections.describe_cursor(key, value)
        case MapName.ROUTING:
            return requests.describe_routing(key, value, names)
        case MapName.ROUTES:
            return requests.describe_routes(key, value)
        case MapName.INDEX:
            return requests.describe_index(key, value)
        case MapName.DOMAIN:
            return requests.describe_domain(key, value)
        case MapName.DECISION:
            return requests.describe_decision(key, value, names)
        case MapName.ROUTE:
            return requests.describe_route(key, value, names)
        case MapName.PAGE:
            return requests.describe_page(key, value)


def print_record(map_name: MapName, record: Description) -> Iterator[str]:
    """A description as text: one line, and more for what a record has any number of."""
    match map_name:
        case MapName.FRONTEND:
            yield connections.print_frontend(record)
        case MapName.CLUSTER:
            yield connections.print_cluster(record)
        case MapName.NODE:
            yield from connections.print_node(record)
        case MapName.BACKEND:
            yield connections.print_backend(record)
        case MapName.CURSOR:
            yield connections.print_cursor(record)
        case MapName.ROUTING:
            yield requests.print_routing(record)
        case MapName.ROUTES:
            yield requests.print_routes(record)
        case MapName.INDEX:
            yield from requests.print_index(record)
        case MapName.DOMAIN:
            yield requests.print_domain(record)
        case MapName.DECISION:
            yield from requests.print_decision(record)
        case MapName.ROUTE:
            yield requests.print_route(record)
        case MapName.PAGE:
            yield requests.print_page(record)
