"""How a cluster finds its endpoints: the legacy type, or a custom cluster_type that may mean the same; and its DNS.

Source: envoy/config/cluster/v3/cluster.proto, DiscoveryType; envoy/extensions/clusters/dns/v3/dns_cluster.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2

from kmesh.model.cluster import Discovery, DnsFamily, DnsOptions
from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resources.extension import open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, clip
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.known_extensions import SYSTEM_DNS_RESOLVERS
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["Found", "decode_discovery"]

_LEGACY = {
    0: Discovery.STATIC,
    1: Discovery.STRICT_DNS,
    2: Discovery.LOGICAL_DNS,
    3: Discovery.EDS,
    4: Discovery.ORIGINAL_DST,
}
_BY_NAME = {
    "envoy.cluster.eds": Discovery.EDS,
    "envoy.cluster.logical_dns": Discovery.LOGICAL_DNS,
    "envoy.cluster.original_dst": Discovery.ORIGINAL_DST,
    "envoy.cluster.static": Discovery.STATIC,
    "envoy.cluster.strict_dns": Discovery.STRICT_DNS,
}
_DNS_CLUSTER = dns_cluster_pb2.DnsCluster.DESCRIPTOR.full_name
_CARES = cares_dns_resolver_pb2.CaresDnsResolverConfig.DESCRIPTOR.full_name
_FAMILY = {
    0: DnsFamily.AUTO,
    1: DnsFamily.V4_ONLY,
    2: DnsFamily.V6_ONLY,
    3: DnsFamily.V4_PREFERRED,
    4: DnsFamily.ALL,
}
_DNS_CLUSTER_FAMILY = {0: DnsFamily.AUTO} | {number + 1: family for number, family in _FAMILY.items()}
"""Its enum has UNSPECIFIED first."""


@dataclass(frozen=True, slots=True)
class Found:
    discovery: Discovery
    dns: DnsOptions
    limitations: tuple[Limitation, ...]
    is_foreign: bool = False
    """A kind of cluster that exists nowhere here: it is refused, and `discovery` says nothing."""


def decode_discovery(cluster: Any) -> Found:
    if cluster.WhichOneof("cluster_discovery_type") == "cluster_type":
        return _decode_custom(cluster)
    if cluster.type not in _LEGACY:
        raise FieldInvalid("type", f"{cluster.type} is no DiscoveryType")
    return Found(_LEGACY[cluster.type], _decode_dns(cluster, _FAMILY), _limit_resolver(cluster, ""))


def _decode_custom(cluster: Any) -> Found:
    custom = cluster.cluster_type
    path = "cluster_type.typed_config"
    if not custom.HasField("typed_config"):
        if custom.name not in _BY_NAME:
            raise FieldInvalid("cluster_type.name", f"{clip(custom.name)} is no cluster type")
        return Found(_BY_NAME[custom.name], _decode_dns(cluster, _FAMILY), _limit_resolver(cluster, ""))
    extension = open_extension(custom.typed_config, path)
    if extension.type_name != _DNS_CLUSTER:
        refusal = Limitation(feature=extension.type_name, path="cluster_type", effect=Effect.REFUSED)
        return Found(Discovery.STATIC, DnsOptions(), (refusal,), is_foreign=True)
    dns = parse_extension(extension, dns_cluster_pb2.DnsCluster, path)
    return Found(
        Discovery.LOGICAL_DNS if dns.all_addresses_in_single_endpoint else Discovery.STRICT_DNS,
        _decode_dns(dns, _DNS_CLUSTER_FAMILY),
        limitations_of(dns, FIELDS, path) + _limit_resolver(dns, f"{path}."),
    )


def _decode_dns(message: Any, families: dict[int, DnsFamily]) -> DnsOptions:
    """The fields have the same names in Cluster and DnsCluster; the rate is above 1 ms by constraint."""
    rate = message.dns_refresh_rate
    return DnsOptions(
        refresh_rate_s=rate.seconds + rate.nanos / 1e9 if message.HasField("dns_refresh_rate") else 5.0,
        respect_ttl=message.respect_dns_ttl,
        family=families[message.dns_lookup_family],
    )


def _limit_resolver(message: Any, prefix: str) -> tuple[Limitation, ...]:
    """Another resolver than the system's may give other addresses."""
    if not message.HasField("typed_dns_resolver_config"):
        return ()
    path = f"{prefix}typed_dns_resolver_config"
    extension = open_extension(message.typed_dns_resolver_config.typed_config, f"{path}.typed_config")
    if extension.type_name in SYSTEM_DNS_RESOLVERS:
        return ()
    if extension.type_name == _CARES:
        cares = parse_extension(extension, cares_dns_resolver_pb2.CaresDnsResolverConfig, f"{path}.typed_config")
        return limitations_of(cares, FIELDS, f"{path}.typed_config")
    return (Limitation(feature=extension.type_name, path=path, effect=Effect.REFUSED),)
