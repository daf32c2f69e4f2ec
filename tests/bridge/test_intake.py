"""What is served after a restart, while the control plane's answers come in one by one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from google.protobuf.message import Message

from kmesh.bridge.intake import Intake
from kmesh.bridge.state import SavedState
from kmesh.errors import ResourceInvalid
from kmesh.model.address import SocketAddress
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Locality, LocalityEndpoints
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster, endpoint, listener, route
from kmesh.xds.update import Update
from tests.support.resources import socket_address
from tests.support.services import captured, http_to, parse, tcp_service, tcp_to

VIP = ("10.96.0.1", 80)
A, B = ("10.0.0.1", 80), ("10.0.0.2", 80)
LISTENER, CLUSTER, ASSIGNMENT = tcp_service("shop", VIP, A)
KINDS = {"Listener": listener.TYPE, "Cluster": cluster.TYPE, "ClusterLoadAssignment": endpoint.TYPE}
DNS_CLUSTER = parse(
    "CDS",
    {
        "name": "shop",
        "type": "STRICT_DNS",
        "load_assignment": {
            "cluster_name": "shop",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address("shop.test", 80)}}]}],
        },
    },
)


def kind_of(message: Message) -> ResourceType:
    return KINDS[message.DESCRIPTOR.name]


def saved(*messages: Message) -> SavedState:
    resources: dict[str, dict[str, tuple[str, bytes]]] = {}
    for message in messages:
        raw = message.SerializeToString()
        name, _ = kind_of(message).decode(raw)
        resources.setdefault(kind_of(message).type_url, {})[name] = ("1", raw)
    return SavedState(resources=resources, written_at=1.0)


def update(*messages: Message, kind: ResourceType | None = None, errors: tuple[ResourceInvalid, ...] = ()) -> Update:
    kind = kind or kind_of(messages[0])
    changed = dict(kind.decode(message.SerializeToString()) for message in messages)
    return Update(type_url=kind.type_url, changed=changed, removed=frozenset(), errors=errors)


def addresses(intake: Intake) -> Mapping[str, list[str]]:
    """Endpoints served, by cluster."""
    snapshot = intake.snapshot()
    assert snapshot is not None
    return {
        name: [str(e.address) for group in assignment.localities for e in group.endpoints]
        for name, assignment in snapshot.assignments.items()
    }


def test_nothing_is_served_before_everything_is_there() -> None:
    intake = Intake(None)
    for message in (CLUSTER, LISTENER):
        intake.take(update(message))
        assert (intake.snapshot(), intake.is_complete) == (None, False)
    intake.take(update(ASSIGNMENT))
    assert intake.is_complete
    assert addresses(intake) == {"shop": ["10.0.0.1:80"]}


def test_saved_configuration_is_served_until_the_new_one_is_whole() -> None:
    intake = Intake(saved(LISTENER, CLUSTER, ASSIGNMENT))
    _, _, moved = tcp_service("shop", VIP, B)
    for message in (CLUSTER, LISTENER):
        assert intake.serves_last_good
        assert addresses(intake) == {"shop": ["10.0.0.1:80"]}
        intake.take(update(message))
    intake.take(update(moved))
    assert not intake.serves_last_good
    assert addresses(intake) == {"shop": ["10.0.0.2:80"]}


def test_saved_resources_that_were_never_complete_are_served_as_they_were() -> None:
    """What a saved listener or cluster waits for was not saved, so it does not exist."""
    waits = captured("web", VIP, http_to(rds={"route_config_name": "r", "config_source": {"ads": {}}}))
    intake = Intake(saved(waits, CLUSTER))
    snapshot = intake.snapshot()
    assert snapshot is not None
    assert (list(snapshot.listeners), dict(snapshot.waiting)) == (["web"], {})


@pytest.mark.parametrize("kind", [endpoint.TYPE, route.TYPE], ids=lambda kind: kind.name)
def test_what_only_ever_comes_invalid_is_not_waited_for(kind: ResourceType) -> None:
    intake = Intake(None)
    rds = {"route_config_name": "bad", "config_source": {"ads": {}}}
    filters = http_to(rds=rds) if kind is route.TYPE else tcp_to("bad")
    intake.take(update(captured("web", VIP, filters)))
    _, bad_cluster, _ = tcp_service("bad", VIP)
    intake.take(update(bad_cluster) if kind is endpoint.TYPE else update(kind=cluster.TYPE))
    assert not intake.is_complete
    intake.take(update(kind=kind, errors=(ResourceInvalid(kind.type_url, "bad", "", "is bad"),)))
    assert intake.is_complete


def test_a_resolution_for_the_saved_configuration_serves_the_new_one_too() -> None:
    """The resolver tells of a cluster's addresses once, and the new configuration may come long after."""
    intake = Intake(saved(LISTENER, DNS_CLUSTER))
    resolved = ClusterLoadAssignment(
        name="shop",
        localities=(LocalityEndpoints(locality=Locality(), endpoints=(Endpoint(SocketAddress.parse(*A)),)),),
    )
    intake.take_resolved("shop", resolved)
    intake.take(update(DNS_CLUSTER))
    intake.take(update(LISTENER))
    assert intake.is_complete
    assert addresses(intake) == {"shop": ["10.0.0.1:80"]}
