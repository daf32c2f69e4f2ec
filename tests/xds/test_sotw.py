"""What is particular to State-of-the-World; what both variants share is in test_behaviours.py."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from kmesh.xds.config import Variant
from tests.support.xds_kinds import CDS, EDS, LDS, build_any
from tests.support.xds_peer import Peer


@pytest.fixture
def peer() -> Peer:
    peer = Peer(Variant.SOTW)
    peer.open()
    return peer


def test_first_requests_follow_the_order_of_types(peer: Peer) -> None:
    peer.subscribe(EDS, "b", "a")
    got = [(s.kind, s.names, s.version, s.nonce, s.has_node) for s in peer.reopen()]
    want = [("CDS", (), "", "", True), ("EDS", ("a", "b"), "", "", False), ("LDS", (), "", "", False)]
    assert got == want


def test_empty_response_deletes_all_listeners_and_no_endpoints(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.push(EDS, {"a": "1"})
    peer.push(LDS, {"a": "1"})
    assert peer.push(LDS, {}, version="v2").removed == {"a"}
    got = peer.push(EDS, {}, version="v2")
    assert (got.changed, got.removed, set(peer.held(EDS))) == ({}, set(), {"a"})
    assert [(s.version, s.names) for s in peer.sent] == [("v2", ("a",))]


def test_absent_is_deleted_though_another_is_invalid_which_is_not_absent(peer: Peer) -> None:
    peer.push(CDS, {"a": "1", "b": "1", "c": "1"}, version="v1")
    got = peer.push(CDS, {"a": "bad", "b": "2"}, version="v2")
    assert (got.changed, got.removed, set(peer.held(CDS))) == ({"b": "2"}, {"c"}, {"a", "b"})


def test_unchanged_resources_of_a_full_response_are_not_reported(peer: Peer) -> None:
    peer.push(CDS, {"a": "1", "b": "1"}, version="v1")
    got = peer.push(CDS, {"a": "1", "b": "2"}, version="v2")
    assert (got.changed, got.removed) == ({"b": "2"}, set())
    assert peer.core.table.resources()[CDS.type_url]["a"].version == "v2"


def test_heartbeat_alone_does_not_delete_what_it_leaves_out(peer: Peer) -> None:
    beat = discovery_pb2.Resource(name="a", resource=build_any(CDS, "a", "1"))
    beat.ttl.seconds = 10
    peer.push(CDS, {"b": "1"}, wrapped=[beat], version="v1")
    beat.ClearField("resource")
    got = peer.push(CDS, wrapped=[beat], version="v1")
    assert (got.removed, got.errors, set(peer.held(CDS))) == (set(), (), {"a", "b"})


def test_rejected_listener_that_is_gone_is_no_longer_reported_as_rejected(peer: Peer) -> None:
    peer.push(LDS, {"a": "bad"}, version="v1")
    assert peer.push(LDS, {}, version="v2").removed == set()
    assert peer.state(LDS).rejected == {}


def test_answer_comes_first_and_carries_the_names_it_answers_for(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    response = peer.build_response(EDS, "v1", [build_any(EDS, "a", "1")], [])
    peer.core.receive(response, peer.now)
    peer.core.table.subscribe(EDS.type_url, ["a", "b"])
    got = [(s.names, s.version, s.nonce) for s in peer.take()]
    assert got == [(("a",), "v1", "n1"), (("a", "b"), "v1", "n1")]


def test_answers_of_a_lost_stream_are_void(peer: Peer) -> None:
    peer.core.receive(peer.build_response(LDS, "v1", [], []), peer.now)
    peer.core.lose_stream()
    assert all(s.nonce == "" for s in peer.open())


@pytest.mark.parametrize("type_url", [EDS.type_url, "type.googleapis.com/Unknown", ""], ids=["eds", "alien", "no"])
def test_a_type_that_was_not_requested_is_ignored_and_not_answered(peer: Peer, type_url: str) -> None:
    response = discovery_pb2.DiscoveryResponse(type_url=type_url, nonce="n", resources=[build_any(EDS, "a", "1")])
    assert peer.push_response(response) is None
    assert peer.sent == []
