"""kmesh.maps.decode: records as people read them."""

from __future__ import annotations

import pytest

from kmesh.maps.decode import Names, describe_record, name_units, print_record
from kmesh.maps.image import Fragment, MapImage, MapName, Record
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import Action, Reason
from kmesh.records.layout import CELL
from tests.support.records import alias_node, backend, cluster, cursor_node, frontend, key64

STAY = 2**32 - 1
QUARTER = 2**30 - 1
V4, V6 = SocketAddress.parse("10.1.0.1", 8080), SocketAddress.parse("2001:db8::1", 9090)
REVIEWS, _ = cluster("reviews", Action.NONE, 0)
ONE, ONE_RECORD = backend(V4, V6, cluster_name="reviews")
NAMES = Names(units={REVIEWS: "reviews"}, backends={key64(ONE): ONE_RECORD[2]})


def show(record: Record) -> list[str]:
    map_name, key, value = record
    return list(print_record(map_name, describe_record(map_name, key, value, NAMES)))


@pytest.mark.parametrize(
    "record, want",
    [
        pytest.param(
            frontend(SocketAddress.parse("10.0.0.1", 80), Action.CLUSTER, REVIEWS),
            "10.0.0.1:80/tcp -> CLUSTER reviews",
            id="frontend to a cluster",
        ),
        pytest.param(
            frontend(SocketAddress.parse("::", 53), Action.BACKEND, ONE, Protocol.UDP),
            f"[::]:53/udp -> BACKEND 10.1.0.1:8080 [2001:db8::1]:9090 {ONE:016x}",
            id="frontend to a backend, over UDP",
        ),
        pytest.param(
            frontend(SocketAddress.parse("10.0.0.1", 80), Action.REFUSE, Reason.UNSUPPORTED),
            "10.0.0.1:80/tcp -> REFUSE UNSUPPORTED",
            id="frontend that refuses",
        ),
        pytest.param(
            frontend(SocketAddress.parse("0.0.0.0", 0), Action.PASS, 0),
            "0.0.0.0:0/tcp -> PASS",
            id="frontend that passes",
        ),
        pytest.param(
            frontend(SocketAddress.parse("10.0.0.1", 80), Action.CLUSTER, 7),
            "10.0.0.1:80/tcp -> CLUSTER 0000000000000007",
            id="cluster without a name",
        ),
        pytest.param(
            frontend(SocketAddress.parse("10.0.0.1", 80), Action.BACKEND, 7),
            "10.0.0.1:80/tcp -> BACKEND 0000000000000007",
            id="backend that is missing",
        ),
        pytest.param(
            cluster("reviews", Action.NODE, 9)[1],
            f"reviews {REVIEWS:016x} -> NODE 0000000000000009",
            id="cluster",
        ),
        pytest.param(
            ONE_RECORD, f"{ONE:016x} 10.1.0.1:8080 [2001:db8::1]:9090 of reviews", id="backend of both families"
        ),
        pytest.param(
            backend(V6, cluster_name="reviews")[1],
            f"{backend(V6, cluster_name='reviews')[0]:016x} [2001:db8::1]:9090 of reviews",
            id="backend of one family",
        ),
        pytest.param((MapName.CURSOR, key64(5), key64(42)), "0000000000000005 at 42", id="cursor"),
        pytest.param(
            (MapName.CLUSTER, key64(REVIEWS), CELL.pack(77, 99, 0)),
            f"reviews {REVIEWS:016x} -> 99 000000000000004d SEAL BROKEN",
            id="unknown action, broken seal",
        ),
    ],
)
def test_one_line_records(record: Record, want: str) -> None:
    assert show(record) == [want]


def test_alias_node_shows_what_each_entry_really_gets() -> None:
    """Half of the draws each; the first keeps a quarter of its own and leaves the rest to the second."""
    number, record = alias_node([(QUARTER, 1, Action.BACKEND, ONE), (STAY, 0, Action.REFUSE, Reason.OVERLOAD_DROP)])
    assert show(record) == [
        f"{number:016x} ALIAS of 2",
        f"   0  12.500% -> BACKEND 10.1.0.1:8080 [2001:db8::1]:9090 {ONE:016x}",
        "   1  87.500% -> REFUSE OVERLOAD_DROP",
    ]


def test_cursor_node() -> None:
    number, (record, cursor) = cursor_node("reviews", [ONE, ONE])
    assert show(record) == [
        f"{number:016x} CURSOR of 2, 2 tickets, 1 to an entry, counted by {show(cursor)[0].split()[0]}",
        f"   0 -> BACKEND 10.1.0.1:8080 [2001:db8::1]:9090 {ONE:016x}",
        f"   1 -> BACKEND 10.1.0.1:8080 [2001:db8::1]:9090 {ONE:016x}",
    ]


def test_cluster_names_come_from_the_units_of_an_image() -> None:
    image = MapImage({("listener", "web"): Fragment.of(()), ("cluster", "reviews"): Fragment.of(())})
    assert name_units(image) == {REVIEWS: "reviews"}
