from __future__ import annotations

import pytest

from kmesh.compiler.claims import claim_destinations
from kmesh.model.address import SocketAddress
from tests.support.snapshot_text import read_snapshot

TCP = "network: !TcpProxy {clusters: [{name: a, weight: 1}]}"


def claim(listeners: str) -> tuple[dict[str, list[str]], list[str]]:
    """Destinations by listener, and the names and features of those that capture nothing."""
    claims = claim_destinations(read_snapshot(f"listeners: {{{listeners}}}").listeners)
    return (
        {name: [str(SocketAddress(a, port)) for a, port, _ in found] for name, found in claims.destinations.items()},
        [f"{report.name}: {report.feature}" for report in claims.reports],
    )


@pytest.mark.parametrize(
    ("listeners", "want", "inactive"),
    [
        pytest.param(
            'a: {addresses: ["10.0.0.1:80", "[fd00::1]:80", "10.0.0.1:80"]}',
            {"a": ["10.0.0.1:80", "[fd00::1]:80"]},
            [],
            id="each_address_once",
        ),
        pytest.param('a: {addresses: ["0.0.0.0:80"]}', {}, ["a: a wildcard address"], id="bound_wildcard"),
        pytest.param(
            'a: {addresses: ["0.0.0.0:80"], bind_to_port: false}', {"a": ["0.0.0.0:80"]}, [], id="unbound_wildcard"
        ),
        pytest.param(
            'a: {addresses: ["0.0.0.0:15001"], use_original_dst: true}', {"a": ["0.0.0.0:0"]}, [], id="original_dst"
        ),
        pytest.param('a: {addresses: ["10.0.0.1:0"]}', {}, ["a: port 0"], id="port_0"),
        pytest.param(
            'a: {addresses: ["10.0.0.1:80"], direction: INBOUND}', {}, ["a: traffic_direction INBOUND"], id="inbound"
        ),
        pytest.param(
            'a: {addresses: ["10.0.0.1:80"], limitations: [{feature: x, path: "", effect: INACTIVE}]}',
            {},
            ["a: x"],
            id="inactive_limitation",
        ),
        pytest.param(
            'b: {addresses: ["10.0.0.1:80"]}, a: {addresses: ["10.0.0.1:80", "10.0.0.2:80"]}, '
            'c: {addresses: ["10.0.0.2:80"]}',
            {"a": ["10.0.0.1:80", "10.0.0.2:80"]},
            ["b: address 10.0.0.1:80", "c: address 10.0.0.2:80"],
            id="first_by_name_wins",
        ),
        pytest.param(
            'a: {addresses: ["10.0.0.1:80"]}, b: {addresses: ["10.0.0.1:80"], protocol: UDP}',
            {"a": ["10.0.0.1:80"], "b": ["10.0.0.1:80"]},
            [],
            id="protocols_apart",
        ),
        pytest.param(
            f'a: {{addresses: ["0.0.0.0:80"], bind_to_port: false, filter_chains: [{{match: {{prefix_ranges: '
            f'[10.0.0.1/32, 10.0.0.2/32, "fd00::1/128"]}}, {TCP}}}]}}, b: {{addresses: ["10.0.0.2:80"]}}',
            {"a": ["0.0.0.0:80", "10.0.0.1:80"], "b": ["10.0.0.2:80"]},
            [],
            id="host_ranges_yield_to_owners",
        ),
        pytest.param(
            'a: {addresses: ["0.0.0.0:15001"], use_original_dst: true, '
            f'filter_chains: [{{match: {{destination_port: 15001}}, {TCP}}}]}}, '
            'z: {addresses: ["0.0.0.0:15002"], use_original_dst: true}',
            {"a": ["0.0.0.0:0", "0.0.0.0:15001"]},
            ["z: use_original_dst"],
            id="ports_of_original_dst",
        ),
    ],
)
def test_claims(listeners: str, want: dict[str, list[str]], inactive: list[str]) -> None:
    assert claim(listeners) == (want, inactive)
