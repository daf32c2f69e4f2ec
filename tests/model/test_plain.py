"""kmesh.model.plain: model objects as plain values."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.endpoint import Endpoint, Locality
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import FilterChain, FilterChainMatch, HttpConnectionManager, UdpProxy
from kmesh.model.match import HeaderMatch, RangeMatch
from kmesh.model.plain import to_plain
from kmesh.model.route import ClusterAction, DirectResponse, Route


def prefix(ip: str, bits: int) -> tuple[bytes, int]:
    return SocketAddress.parse(ip, 0).addr16, bits


@pytest.mark.parametrize(
    "value, want",
    [
        pytest.param(SocketAddress.parse("::1", 80), "[::1]:80", id="address"),
        pytest.param(HostAddress("db.example", 5432), "db.example:5432", id="host"),
        pytest.param(Effect.REFUSED, "REFUSED", id="enum"),
        pytest.param({"b": (1, True, None, 0.5)}, {"b": [1, True, None, 0.5]}, id="mapping and tuple"),
        pytest.param(prefix("10.0.0.0", 104), "10.0.0.0/8", id="IPv4 prefix"),
        pytest.param(prefix("0.0.0.0", 96), "0.0.0.0/0", id="all of IPv4"),
        pytest.param(prefix("2001:db8::", 32), "2001:db8::/32", id="IPv6 prefix"),
        pytest.param(prefix("::", 0), "::/0", id="all of IPv6"),
        pytest.param(Locality("eu"), {"region": "eu"}, id="defaults left out"),
        pytest.param(
            Endpoint(SocketAddress.parse("10.0.0.1", 1), transport_match=(("tlsMode", "istio"),)),
            {"address": "10.0.0.1:1", "transport_match": [["tlsMode", "istio"]]},
            id="pairs",
        ),
        pytest.param(
            FilterChain(
                match=FilterChainMatch(prefix_ranges=(prefix("10.0.0.0", 120),)), network=UdpProxy(cluster="dns")
            ),
            {"match": {"prefix_ranges": ["10.0.0.0/24"]}, "network": {"type": "UdpProxy", "cluster": "dns"}},
            id="one of several filters",
        ),
        pytest.param(
            Route(action=ClusterAction(cluster="a")),
            {"action": {"type": "ClusterAction", "cluster": "a"}},
            id="one of several actions",
        ),
        pytest.param(
            Route(action=DirectResponse(status=404, body=b"none\xff")),
            {"action": {"type": "DirectResponse", "status": 404, "body": "none\\xff"}},
            id="bytes",
        ),
        pytest.param(
            HeaderMatch(name="a", value=RangeMatch(start=1, end=2)),
            {"name": "a", "value": {"type": "RangeMatch", "start": 1, "end": 2}},
            id="one of several conditions",
        ),
    ],
)
def test_without_defaults(value: object, want: Any) -> None:
    assert to_plain(value, has_defaults=False) == want


def test_with_defaults() -> None:
    limitation = Limitation(feature="f", path="", effect=Effect.UNENFORCED)
    got = to_plain(HttpConnectionManager(rds_name="web", limitations=(limitation,)))
    assert got == {
        "type": "HttpConnectionManager",
        "route_config": None,
        "rds_name": "web",
        "normalization": {
            "escaped_slashes": "KEEP_UNCHANGED",
            "normalizes_path": False,
            "merges_slashes": False,
            "strip_port": "NONE",
            "strips_trailing_dot": False,
        },
        "http10": None,
        "limitations": [{"feature": "f", "path": "", "effect": "UNENFORCED"}],
    }


def test_what_is_no_model_value_is_a_bug() -> None:
    with pytest.raises(TypeError, match="set is not a model value"):
        to_plain({1})
