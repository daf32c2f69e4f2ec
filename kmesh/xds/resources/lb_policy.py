"""How a cluster balances: Cluster.lb_policy, or the load_balancing_policy extensions that override it.

Of the extensions the first that Envoy knows counts; one that cannot be honoured here still counts, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envoy.extensions.load_balancing_policies.cluster_provided.v3 import cluster_provided_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from google.protobuf.message import Message

from kmesh.model.cluster import LbPolicy
from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resources.extension import Extension, open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["Balancing", "decode_lb_policy"]

_PACKAGE = "envoy.extensions.load_balancing_policies."
_WRR_LOCALITY = wrr_locality_pb2.WrrLocality.DESCRIPTOR.full_name

_LEGACY = {
    0: LbPolicy.ROUND_ROBIN,
    1: LbPolicy.LEAST_REQUEST,
    2: LbPolicy.RING_HASH,
    3: LbPolicy.RANDOM,
    5: LbPolicy.MAGLEV,
    6: LbPolicy.CLUSTER_PROVIDED,
}
_BY_EXTENSION = 7
"""LOAD_BALANCING_POLICY_CONFIG."""

_HONOURED: Mapping[str, tuple[type[Message], LbPolicy]] = {
    message.DESCRIPTOR.full_name: (message, policy)
    for message, policy in (
        (round_robin_pb2.RoundRobin, LbPolicy.ROUND_ROBIN),
        (least_request_pb2.LeastRequest, LbPolicy.LEAST_REQUEST),
        (random_pb2.Random, LbPolicy.RANDOM),
        (ring_hash_pb2.RingHash, LbPolicy.RING_HASH),
        (maglev_pb2.Maglev, LbPolicy.MAGLEV),
        (cluster_provided_pb2.ClusterProvided, LbPolicy.CLUSTER_PROVIDED),
    )
}
_NOT_HONOURED = frozenset(
    _PACKAGE + name
    for name in (
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        "dynamic_modules.v3.DynamicModulesLoadBalancerConfig",
        "load_aware_locality.v3.LoadAwareLocality",
        "override_host.v3.OverrideHost",
        "subset.v3.Subset",
    )
)


@dataclass(frozen=True, slots=True)
class Balancing:
    policy: LbPolicy
    is_locality_weighted: bool
    limitations: tuple[Limitation, ...]


def decode_lb_policy(cluster: Any) -> Balancing:
    """Raises: FieldInvalid when no policy is one that Envoy knows."""
    if cluster.HasField("load_balancing_policy"):
        policies = cluster.load_balancing_policy.policies
        balancing = _first_known(policies, "load_balancing_policy.policies", is_nested=False)
    elif cluster.lb_policy == _BY_EXTENSION:
        raise FieldInvalid("load_balancing_policy", "is required by lb_policy LOAD_BALANCING_POLICY_CONFIG")
    elif cluster.lb_policy not in _LEGACY:
        raise FieldInvalid("lb_policy", f"{cluster.lb_policy} is no LbPolicy")
    else:
        is_weighted = cluster.common_lb_config.HasField("locality_weighted_lb_config")
        balancing = Balancing(_LEGACY[cluster.lb_policy], is_weighted, ())
    if balancing.policy is not LbPolicy.LEAST_REQUEST:
        return balancing
    least = Limitation(feature="LEAST_REQUEST", path="lb_policy", effect=Effect.APPROXIMATED)
    return Balancing(balancing.policy, balancing.is_locality_weighted, (*balancing.limitations, least))


def _first_known(policies: Any, path: str, *, is_nested: bool) -> Balancing:
    for index, policy in enumerate(policies):
        where = under(at(path, index), "typed_extension_config.typed_config")
        extension = open_extension(policy.typed_extension_config.typed_config, where)
        if extension.type_name in _HONOURED:
            return _decode_honoured(extension, where)
        if extension.type_name == _WRR_LOCALITY and not is_nested:
            return _decode_wrr_locality(extension, where)
        if extension.type_name in _NOT_HONOURED or extension.type_name == _WRR_LOCALITY:
            refusal = Limitation(feature=extension.type_name, path=where, effect=Effect.REFUSED)
            return Balancing(LbPolicy.RANDOM, False, (refusal,))
    raise FieldInvalid(path, "has no known load balancing policy")


def _decode_honoured(extension: Extension, path: str) -> Balancing:
    kind, policy = _HONOURED[extension.type_name]
    message: Any = parse_extension(extension, kind, path)
    names = message.DESCRIPTOR.fields_by_name
    locality = message.locality_lb_config if "locality_lb_config" in names else message
    is_weighted = "locality_weighted_lb_config" in locality.DESCRIPTOR.fields_by_name and locality.HasField(
        "locality_weighted_lb_config"
    )
    return Balancing(policy, is_weighted, limitations_of(message, FIELDS, path))


def _decode_wrr_locality(extension: Extension, path: str) -> Balancing:
    message = parse_extension(extension, wrr_locality_pb2.WrrLocality, path)
    inner = _first_known(
        message.endpoint_picking_policy.policies, under(path, "endpoint_picking_policy.policies"), is_nested=True
    )
    return Balancing(inner.policy, True, limitations_of(message, FIELDS, path) + inner.limitations)
