"""Filter chains and their matches.

Source: envoy/config/listener/v3/listener_components.proto; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

from kmesh.model.listener import FilterChain, FilterChainMatch, SourceType
from kmesh.xds.resources.address import decode_cidr
from kmesh.xds.resources.field import FieldInvalid, at, clip, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.network_filter import decode_network_filters
from kmesh.xds.resources.transport import decode_downstream_transport
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["check_matches_differ", "decode_filter_chain"]

_SOURCE_TYPE = {0: SourceType.ANY, 1: SourceType.SAME_IP_OR_LOOPBACK, 2: SourceType.EXTERNAL}


def decode_filter_chain(message: Any, path: str) -> FilterChain:
    """From a message whose constraints hold."""
    match_path = under(path, "filter_chain_match")
    return FilterChain(
        name=message.name,
        match=_decode_match(message.filter_chain_match, match_path),
        network=decode_network_filters(message.filters, under(path, "filters")),
        limitations=limitations_of(message, FIELDS, path)
        + limitations_of(message.filter_chain_match, FIELDS, match_path)
        + decode_downstream_transport(message, path),
    )


def check_matches_differ(filter_chains: tuple[FilterChain, ...], path: str) -> None:
    """No two chains may take the same connection by equally specific rules: Envoy could not tell which is meant.

    A rule is one value of every dimension of a match, and two matches clash when they share one. Only chains with
    equal first dimensions are compared pair by pair.
    """
    by_port: dict[int | None, list[tuple[int, list[frozenset[Hashable]]]]] = defaultdict(list)
    for index, chain in enumerate(filter_chains):
        mine = _dimensions(chain.match)
        for other, theirs in by_port[chain.match.destination_port]:
            if not any(a.isdisjoint(b) for a, b in zip(mine, theirs, strict=True)):
                raise FieldInvalid(at(path, index), f"matches what filter_chains[{other}] matches")
        by_port[chain.match.destination_port].append((index, mine))


def _dimensions(match: FilterChainMatch) -> list[frozenset[Hashable]]:
    """The values of each list; an empty one has its own value, "anything"."""
    lists = (
        match.prefix_ranges,
        match.server_names,
        (match.transport_protocol,),
        match.application_protocols,
        match.direct_source_prefix_ranges,
        (match.source_type,),
        match.source_prefix_ranges,
        match.source_ports,
    )
    return [frozenset(values or (None,)) for values in lists]


def _decode_match(message: Any, path: str) -> FilterChainMatch:
    if message.address_suffix or message.HasField("suffix_len"):
        raise FieldInvalid(under(path, "address_suffix"), "is implemented nowhere, and Envoy rejects it")
    return FilterChainMatch(
        destination_port=message.destination_port.value or None,
        prefix_ranges=_decode_ranges(message, "prefix_ranges", path),
        direct_source_prefix_ranges=_decode_ranges(message, "direct_source_prefix_ranges", path),
        source_type=_SOURCE_TYPE[message.source_type],
        source_prefix_ranges=_decode_ranges(message, "source_prefix_ranges", path),
        source_ports=tuple(message.source_ports),
        server_names=_decode_server_names(message.server_names, under(path, "server_names")),
        transport_protocol=message.transport_protocol,
        application_protocols=tuple(message.application_protocols),
    )


def _decode_ranges(message: Any, name: str, path: str) -> tuple[tuple[bytes, int], ...]:
    here = under(path, name)
    return tuple(decode_cidr(cidr, at(here, index)) for index, cidr in enumerate(getattr(message, name)))


def _decode_server_names(names: Any, path: str) -> tuple[str, ...]:
    """Lower-cased: server names are compared without regard to case. A wildcard is a whole first label."""
    for index, name in enumerate(names):
        if "*" in name.removeprefix("*."):
            raise FieldInvalid(at(path, index), f"{clip(name)} is a partial wildcard")
    return tuple(name.lower() for name in names)
