"""What is particular to delta; what both variants share is in test_behaviours.py."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from kmesh.xds.config import Variant
from tests.support.xds_kinds import CDS, EDS, build_any
from tests.support.xds_peer import Peer


@pytest.fixture
def peer() -> Peer:
    peer = Peer(Variant.DELTA)
    peer.open()
    return peer


def test_answer_and_subscription_are_two_requests_answer_first(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.core.receive(peer.build_response(EDS, "v1", [], []), peer.now)
    peer.core.table.subscribe(EDS.type_url, ["b"])
    got = [(s.nonce, s.names, s.unsubscribed) for s in peer.take()]
    assert got == [("n1", (), ()), ("", ("b",), ("a",))]


def test_absence_deletes_nothing(peer: Peer) -> None:
    peer.push(CDS, {"a": "1", "b": "1"})
    got = peer.push(CDS, {"a": "2"}, version="v2")
    assert (got.changed, got.removed, set(peer.held(CDS))) == ({"a": "2"}, set(), {"a", "b"})


def test_name_taken_up_again_is_asked_for_and_delivered_again(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.push(EDS, {"a": "1", "b": "1"})
    peer.subscribe(EDS, "b")
    assert set(peer.held(EDS)) == {"b"}
    assert peer.subscribe(EDS, "a", "b") is None
    assert [(s.names, s.unsubscribed, s.initial) for s in peer.sent] == [(("a",), (), {})]
    assert peer.push(EDS, {"a": "1"}).changed == {"a": "1"}


def test_removal_of_a_name_never_seen_says_that_it_does_not_exist(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    assert peer.push(EDS, removed=["a", "x"]).removed == {"a"}
    assert peer.push(EDS, removed=["a"]).removed == set(), "once"
    assert peer.pass_time(1000) == []
    assert peer.push(EDS, {"a": "1"}).changed == {"a": "1"}
    assert peer.push(EDS, removed=["a"]).removed == {"a"}


def test_name_known_to_be_missing_is_told_again_when_taken_up_again(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.pass_time(16)
    peer.core.table.subscribe(EDS.type_url, ["b"])
    got = peer.core.table.subscribe(EDS.type_url, ["a", "b"])
    assert (got.changed, got.removed) == ({}, {"a"})


def test_resource_both_sent_and_removed_keeps_its_last_good_version(peer: Peer) -> None:
    peer.push(CDS, {"a": "1"})
    got = peer.push(CDS, {"a": "2"}, removed=["a"], version="v2")
    assert (got.changed, got.removed, [e.name for e in got.errors]) == ({}, set(), ["a"])
    assert peer.held(CDS) == {"a": build_any(CDS, "a", "1").value}


def test_versions_may_be_empty_as_those_of_istiod_are(peer: Peer) -> None:
    peer.push(CDS, {"a": "1"}, version="")
    assert {s.kind: s.initial for s in peer.reopen()} == {"CDS": {"a": ""}, "LDS": {}}


def test_name_that_the_wrapper_gives_stands_in_for_one_that_cannot_be_read(peer: Peer) -> None:
    peer.push(CDS, {"a": "1"})
    broken = discovery_pb2.Resource(name="a", version="v2")
    broken.resource.type_url = CDS.type_url
    broken.resource.value = b"\xff"
    got = peer.push(CDS, wrapped=[broken], version="v2")
    assert [e.name for e in got.errors] == ["a"]
    assert peer.held(CDS) == {"a": build_any(CDS, "a", "1").value}


@pytest.mark.parametrize("type_url", [EDS.type_url, "type.googleapis.com/Unknown", ""], ids=["eds", "alien", "no"])
def test_a_type_that_was_not_requested_is_ignored_and_not_answered(peer: Peer, type_url: str) -> None:
    response = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce="n", removed_resources=["a"])
    assert peer.push_response(response) is None
    assert peer.sent == []
