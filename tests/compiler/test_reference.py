"""Each step that the reference interpreter's docstring names, on hand-made tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kmesh.compiler.reference import decide, is_refusal
from kmesh.maps.image import MapName, Record
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import LIMITS, Action, Family, NodeKind, Reason
from kmesh.records.layout import BACKEND, CELL, ENTRY, FRONTEND_KEY, NODE
from tests.support.records import cluster, frontend, image, key64
from tests.support.snapshot_text import parse_address

ASKED = SocketAddress.parse("10.96.0.1", 80)
ASKED_V6 = SocketAddress.parse("2001:db8::1", 80)
V4, V6 = SocketAddress.parse("10.0.0.1", 8080), SocketAddress.parse("fd00::1", 8081)


def draws(*numbers: int) -> Callable[[], int]:
    given: Iterator[int] = iter(numbers)
    return lambda: next(given)


def run(
    *records: Record,
    asked: SocketAddress = ASKED,
    protocol: Protocol = Protocol.TCP,
    is_ipv6_socket: bool = False,
    draw: Callable[[], int] = lambda: 0,
    cursors: dict[int, int] | None = None,
) -> Reason | SocketAddress:
    decision = decide(
        image(test=records).tables(),
        asked,
        protocol,
        is_ipv6_socket=is_ipv6_socket,
        draw=draw,
        cursors={} if cursors is None else cursors,
    )
    return decision.address or decision.reason


def node(number: int, kind: int, *entries: tuple[int, int, int, int], total: int = 0, stride: int = 0) -> Record:
    packed = b"".join(ENTRY.pack(*entry) for entry in entries)
    return MapName.NODE, key64(number), NODE.pack(kind, len(entries), total, stride, 9, packed)


def refuse(reason: Reason, threshold: int = 0, alias: int = 0) -> tuple[int, int, int, int]:
    return threshold, alias, Action.REFUSE, reason


def backend(families: Family) -> Record:
    value = BACKEND.pack(V6.addr16, V4.addr16[12:], 0x911F, 0x901F, families, 0)
    return MapName.BACKEND, key64(5), value


TO_NODE = frontend(ASKED, Action.NODE, 1)
CURSOR: Record = (MapName.CURSOR, key64(9), key64(0))


@pytest.mark.parametrize(
    ("listeners", "asked", "protocol", "want"),
    [
        pytest.param(["10.96.0.1:80", "0.0.0.0:80", "0.0.0.0:0"], ASKED, Protocol.TCP, "10.96.0.1:80", id="exact"),
        pytest.param(["0.0.0.0:80", "0.0.0.0:0"], ASKED, Protocol.TCP, "0.0.0.0:80", id="wildcard"),
        pytest.param(["0.0.0.0:81", "0.0.0.0:0"], ASKED, Protocol.TCP, "0.0.0.0:0", id="any_port"),
        pytest.param(["[::]:80", "0.0.0.0:0"], ASKED_V6, Protocol.TCP, "[::]:80", id="v6_wildcard"),
        pytest.param(["0.0.0.0:80", "0.0.0.0:0"], ASKED_V6, Protocol.TCP, None, id="family_of_the_destination"),
        pytest.param(["0.0.0.0:0"], ASKED, Protocol.UDP, None, id="any_port_is_tcp_only"),
        pytest.param(["0.0.0.0:80"], ASKED, Protocol.UDP, "0.0.0.0:80", id="udp_wildcard"),
    ],
)
def test_frontend(listeners: list[str], asked: SocketAddress, protocol: Protocol, want: str | None) -> None:
    reasons = list(Reason)[Reason.NO_ENDPOINT :]
    records = [
        frontend(parse_address(text), Action.REFUSE, reason, protocol)
        for text, reason in zip(listeners, reasons, strict=False)
    ]
    got = run(*records, asked=asked, protocol=protocol)
    assert got == (reasons[listeners.index(want)] if want else Reason.NOT_MESH)


@pytest.mark.parametrize(
    ("families", "asked", "is_ipv6_socket", "want"),
    [
        pytest.param(Family.V4, ASKED, False, V4, id="v4"),
        pytest.param(Family.V4, ASKED_V6, True, V4, id="v4_mapped_for_a_v6_socket"),
        pytest.param(Family.V6, ASKED, False, Reason.FAMILY, id="v6_for_a_v4_socket"),
        pytest.param(Family.V6, ASKED, True, V6, id="v6_for_a_v6_socket_that_asked_v4"),
        pytest.param(Family.V4 | Family.V6, ASKED, True, V4, id="dual_asked_v4"),
        pytest.param(Family.V4 | Family.V6, ASKED_V6, True, V6, id="dual_asked_v6"),
    ],
)
def test_address(families: Family, asked: SocketAddress, is_ipv6_socket: bool, want: object) -> None:
    records = frontend(asked, Action.BACKEND, 5), backend(families)
    assert run(*records, asked=asked, is_ipv6_socket=is_ipv6_socket) == want


@pytest.mark.parametrize(
    ("numbers", "want"),
    [
        pytest.param((0, 10), Reason.NO_ROUTE, id="stay_at_the_threshold"),
        pytest.param((0, 11), Reason.BLACKHOLE, id="alias_above_it"),
        pytest.param((2**31 - 1, 0), Reason.NO_ROUTE, id="first_half"),
        pytest.param((2**31, 0), Reason.NO_CLUSTER, id="second_half"),
        pytest.param((2**31, 2**32 - 1), Reason.NO_CLUSTER, id="always"),
    ],
)
def test_alias(numbers: tuple[int, int], want: Reason) -> None:
    entries = (refuse(Reason.NO_ROUTE, 10, 2), refuse(Reason.NO_CLUSTER, 2**32 - 1), refuse(Reason.BLACKHOLE))
    choice = node(1, NodeKind.ALIAS, *entries[:2], entries[2])
    packed = bytearray(choice[2])
    packed[4] = 2  # count: the third entry is reached by alias alone
    assert run(TO_NODE, (choice[0], choice[1], bytes(packed)), draw=draws(*numbers)) == want


def test_cursor_counts_through_index_nodes() -> None:
    first = node(2, NodeKind.INDEX, refuse(Reason.NO_ROUTE), refuse(Reason.NO_CLUSTER), stride=1)
    root = node(1, NodeKind.CURSOR, (0, 0, Action.NODE, 2), refuse(Reason.BLACKHOLE), total=3, stride=2)
    cursors: dict[int, int] = {}
    got = [run(TO_NODE, root, first, CURSOR, cursors=cursors) for _ in range(4)]
    assert got == [Reason.NO_ROUTE, Reason.NO_CLUSTER, Reason.BLACKHOLE, Reason.NO_ROUTE]
    assert cursors == {9: 4}


def test_cursor_wraps_at_64_bits() -> None:
    root = node(1, NodeKind.CURSOR, refuse(Reason.NO_ROUTE), refuse(Reason.NO_CLUSTER), total=2, stride=1)
    cursors = {9: 2**64 - 1}
    assert run(TO_NODE, root, CURSOR, cursors=cursors) == Reason.NO_CLUSTER
    assert cursors == {9: 0}


def test_cluster_and_pass() -> None:
    number, cell = cluster("c", Action.PASS, 0)
    assert run(frontend(ASKED, Action.CLUSTER, number), cell) == Reason.PASSED


def chain_of_nodes(length: int) -> list[Record]:
    nodes = [node(i, NodeKind.INDEX, (0, 0, Action.NODE, i + 1), stride=1) for i in range(1, length)]
    return [TO_NODE, *nodes, node(length, NodeKind.INDEX, refuse(Reason.NO_ROUTE), stride=1)]


def test_depth() -> None:
    assert run(*chain_of_nodes(LIMITS["TREE_DEPTH"])) == Reason.NO_ROUTE
    assert run(*chain_of_nodes(LIMITS["TREE_DEPTH"] + 1)) == Reason.BROKEN


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([frontend(ASKED, Action.NONE, 0)], id="no_action"),
        pytest.param([frontend(ASKED, Action.BACKEND, 5)], id="no_backend"),
        pytest.param([frontend(ASKED, Action.CLUSTER, 5)], id="no_cluster"),
        pytest.param([TO_NODE], id="no_node"),
        pytest.param([frontend(ASKED, Action.REFUSE, Reason.BALANCED)], id="not_a_refusal"),
        pytest.param([frontend(ASKED, Action.REFUSE, 99)], id="unknown_reason"),
        pytest.param([frontend(ASKED, Action.REFUSE, 2**32 + Reason.NO_ROUTE)], id="reason_of_more_than_32_bits"),
        pytest.param([frontend(ASKED, Action.BACKEND, 5), backend(Family(0))], id="backend_without_address"),
        pytest.param([TO_NODE, node(1, 4, refuse(Reason.NO_ROUTE), stride=1)], id="unknown_kind"),
        pytest.param([TO_NODE, node(1, NodeKind.INDEX, refuse(Reason.NO_ROUTE))], id="no_stride"),
        pytest.param([TO_NODE, node(1, NodeKind.CURSOR, refuse(Reason.NO_ROUTE), stride=1), CURSOR], id="no_total"),
        pytest.param([TO_NODE, node(1, NodeKind.CURSOR, refuse(Reason.NO_ROUTE), total=1, stride=1)], id="no_cursor"),
        pytest.param([TO_NODE, node(1, NodeKind.INDEX, stride=1)], id="no_entries"),
        pytest.param([TO_NODE, node(1, NodeKind.ALIAS)], id="no_alias_entries"),
        pytest.param(
            [(MapName.FRONTEND, FRONTEND_KEY.pack(ASKED.addr16, 0x5000, 6), CELL.pack(6, Action.REFUSE, 1))],
            id="broken_seal",
        ),
    ],
)
def test_broken(records: list[Record]) -> None:
    assert run(*records, draw=draws(0, 1)) == Reason.BROKEN


def test_refusals_end_with_broken() -> None:
    assert [reason for reason in Reason if is_refusal(reason)] == list(Reason)[Reason.NO_ENDPOINT :]
