"""The client behaviours that other xDS clients and servers are tested for, by number, at the level of the cores.

Numbers and titles come from the project's list of behaviours, collected from the test suites of grpc-go, Envoy,
Istio, ztunnel and go-control-plane. Those that need a socket or a task are in test_client.py and carry their
number too; the last test here checks that none is forgotten.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from kmesh.xds.config import Variant
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.update import Update
from tests.support.xds_kinds import CDS, EDS, KINDS, LDS, RDS, build_any
from tests.support.xds_peer import Peer

NOT_APPLICABLE = {
    22: "fallback servers: this client has one server",
    23: "xdstp names: their parameters are compared by servers and clients of federation, which this is not",
    33: "on-demand loading with waiters: a workload-discovery (WDS) behaviour; here nothing waits on demand",
    38: "overlapping connections of one node, and bad node ids: judged by the server",
    42: "workload discovery (WDS): not one of the four types",
}

BOTH = pytest.mark.parametrize("variant", list(Variant), ids=lambda v: v.value)
SOTW = pytest.mark.parametrize("variant", [Variant.SOTW], ids=["sotw"])
DELTA = pytest.mark.parametrize("variant", [Variant.DELTA], ids=["delta"])


@pytest.fixture
def peer(variant: Variant) -> Peer:
    peer = Peer(variant)
    peer.open()
    return peer


def changed(update: Update | None) -> dict[str, object]:
    assert update is not None
    return dict(update.changed)


def sole(items: list) -> object:
    assert len(items) == 1, items
    return items[0]


def by_kind(peer: Peer) -> dict:
    assert len({sent.kind for sent in peer.sent}) == len(peer.sent)
    return {sent.kind: sent for sent in peer.sent}


@BOTH
def test_behaviour_01_good_response_is_acked_with_its_version_and_nonce(peer: Peer) -> None:
    peer.push(LDS, {"a": "1"}, version="v1")
    got = sole(peer.sent)
    assert (got.kind, got.nonce, got.error) == ("LDS", "n1", "")
    assert peer.is_delta or got.version == "v1"


@BOTH
def test_behaviour_02_bad_second_response_is_nacked_with_the_previous_version(peer: Peer) -> None:
    peer.push(LDS, {"a": "1"}, version="v1")
    peer.push(LDS, {"a": "bad"}, version="v2")
    got = sole(peer.sent)
    assert (got.nonce, got.error) == ("n2", "Listener 'a' at value: is bad")
    assert peer.is_delta or got.version == "v1"


@BOTH
def test_behaviour_03_good_response_after_a_nack_is_acked(peer: Peer) -> None:
    for version, value in (("v1", "1"), ("v2", "bad"), ("v3", "3")):
        update = peer.push(LDS, {"a": value}, version=version)
    got = sole(peer.sent)
    assert (got.nonce, got.error, changed(update)) == ("n3", "", {"a": "3"})
    assert peer.is_delta or got.version == "v3"


@BOTH
def test_behaviour_04_first_response_bad_is_nacked_with_an_empty_version(peer: Peer) -> None:
    peer.push(LDS, {"a": "bad"}, version="v1")
    got = sole(peer.sent)
    assert (got.nonce, got.version, bool(got.error)) == ("n1", "", True)


@BOTH
def test_behaviour_05_last_name_dropped_and_subscribed_again_on_a_new_stream_starts_afresh(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.push(EDS, {"a": "1"}, version="v1")
    peer.subscribe(EDS)
    peer.lose()
    peer.subscribe(EDS, "a")
    peer.open()
    got = by_kind(peer)["EDS"]
    assert (got.names, got.version, got.nonce, got.initial) == (("a",), "", "", {})


@BOTH
def test_behaviour_06_identical_nack_errors_are_reported_once(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return sum(r.levelno == logging.WARNING and r.msg == "xds response rejected" for r in caplog.records)

    for version in ("v1", "v2", "v3"):
        peer.push(LDS, {"a": "bad", "b": "bad"}, version=version)
        assert "'a'" in sole(peer.sent).error and "'b'" in sole(peer.sent).error
    assert warnings() == 1
    peer.push(LDS, {"a": "bad"}, version="v4")
    assert warnings() == 2


@BOTH
def test_behaviour_07_after_a_stream_error_the_same_names_are_requested(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.reopen()
    assert {kind: sent.names for kind, sent in by_kind(peer).items()} == {"CDS": (), "EDS": ("a", "b"), "LDS": ()}


@SOTW
def test_behaviour_08_reconnect_sends_the_last_acked_version_and_no_nonce(peer: Peer) -> None:
    peer.push(LDS, {"a": "1"}, version="v1")
    peer.push(LDS, {"a": "bad"}, version="v2")
    peer.reopen()
    got = by_kind(peer)["LDS"]
    assert (got.version, got.nonce) == ("v1", "")


@BOTH
def test_behaviour_09_names_requested_before_the_stream_exists_are_sent_on_creation(variant: Variant) -> None:
    peer = Peer(variant)
    peer.subscribe(EDS, "a")
    assert peer.sent == []
    peer.open()
    assert by_kind(peer)["EDS"].names == ("a",)


@BOTH
def test_behaviour_11_not_received_in_15_s_means_it_does_not_exist(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.push(EDS, {"a": "1"})
    assert peer.pass_time(14.9) == []
    got = sole(peer.pass_time(0.2))
    assert (got.type_url, got.removed, got.changed) == (EDS.type_url, {"b"}, {})
    assert peer.pass_time(1000) == []


@BOTH
def test_behaviour_11_an_invalid_resource_was_received_all_the_same(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.push(EDS, {"a": "bad"})
    assert peer.pass_time(1000) == []


@BOTH
def test_behaviour_12_timer_stops_with_the_stream_and_restarts_on_the_next(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.pass_time(10)
    peer.lose()
    assert peer.core.table.next_deadline() is None
    assert peer.pass_time(1000) == []
    peer.open()
    assert peer.pass_time(14.9) == []
    assert sole(peer.pass_time(0.2)).removed == {"a"}


@BOTH
def test_behaviour_13_absent_listener_is_removed_only_if_it_was_ever_there(peer: Peer) -> None:
    peer.push(LDS, {"a": "1", "b": "1"}, version="v1")
    update = peer.remove(LDS, "a", "never-there", version="v2")
    assert (update.removed, update.changed) == ({"a"}, {})
    assert set(peer.held(LDS)) == {"b"}


@BOTH
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_behaviour_14_good_resources_of_a_bad_response_are_applied(peer: Peer, kind: ResourceType) -> None:
    if not kind.is_full_state:
        peer.subscribe(kind, "a", "b")
    peer.push(kind, {"a": "1", "b": "1"}, version="v1")
    update = peer.push(kind, {"a": "2", "b": "bad"}, version="v2")
    assert changed(update) == {"a": "2"}
    assert update.removed == set()
    assert [(e.name, e.path, e.reason) for e in update.errors] == [("b", "value", "is bad")]
    assert "'b' at value: is bad" in sole(peer.sent).error
    assert peer.held(kind) == {"a": build_any(kind, "a", "2").value, "b": build_any(kind, "b", "1").value}


@BOTH
def test_behaviour_15_a_nack_keeps_the_last_good_version_and_the_dump_shows_both(peer: Peer) -> None:
    peer.push(LDS, {"a": "1"}, version="v1")
    peer.push(LDS, {"a": "bad"}, version="v2")
    held = peer.core.table.resources()[LDS.type_url]["a"]
    assert (held.version, held.raw) == ("v1", build_any(LDS, "a", "1").value)
    state = peer.state(LDS)
    assert (state.version, state.is_rejected, state.rejected) == ("v1", True, {"a": "is bad"})
    assert (state.last_nack, state.last_nack_at) == ("Listener 'a' at value: is bad", peer.now)
    peer.push(LDS, {"a": "3"}, version="v3")
    assert (state.version, state.is_rejected, state.rejected) == ("v3", False, {})
    assert state.last_nack != ""


@BOTH
def test_behaviour_16_a_name_taken_up_again_is_served_from_the_cache_without_a_request(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.push(EDS, {"a": "1", "b": "1"})
    assert peer.core.table.subscribe(EDS.type_url, ["b"]) is None
    assert changed(peer.core.table.subscribe(EDS.type_url, ["a", "b"])) == {"a": "1"}
    assert peer.take() == []
    assert peer.subscribe(EDS, "a", "b") is None
    assert peer.sent == []


@BOTH
def test_behaviour_17_unrequested_resources_are_ignored(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    update = peer.push(EDS, {"a": "1", "x": "1"})
    assert changed(update) == {"a": "1"}
    assert set(peer.held(EDS)) == {"a"}
    assert sole(peer.sent).error == ""
    peer.reopen()
    assert "x" not in by_kind(peer)["EDS"].initial


@BOTH
def test_behaviour_18_node_is_in_the_first_request_of_each_stream_only(peer: Peer) -> None:
    for _ in range(2):
        peer.reopen()
        assert [sent.has_node for sent in peer.sent] == [True, False]
        peer.push(LDS, {"a": "1"})
        assert [sent.has_node for sent in peer.sent] == [False]


@BOTH
def test_behaviour_20_a_decoder_that_fails_makes_a_nack(peer: Peer) -> None:
    update = peer.push(LDS, {"a": "bug", "b": "1"})
    assert changed(update) == {"b": "1"}
    assert "the decoder failed: ZeroDivisionError: a bug" in sole(peer.sent).error


@BOTH
def test_behaviour_21_one_of_many_names_dropped(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b", "c")
    peer.subscribe(EDS, "a", "c")
    got = sole(peer.sent)
    want = ((), ("b",)) if peer.is_delta else (("a", "c"), ())
    assert (got.names, got.unsubscribed) == want


@DELTA
def test_behaviour_24_reconnect_repeats_all_names_and_lists_the_latest_versions(peer: Peer) -> None:
    peer.subscribe(EDS, "a", "b", "c")
    peer.push(EDS, {"a": "1", "b": "1"}, version="v1")
    peer.push(EDS, {"a": "2"}, version="v2")
    peer.reopen()
    got = by_kind(peer)["EDS"]
    assert (got.names, got.initial, got.nonce) == (("a", "b", "c"), {"a": "v2", "b": "v1"}, "")
    peer.subscribe(EDS, "a", "b", "c", "d")
    assert sole(peer.sent).initial == {}


@DELTA
def test_behaviour_25_confirmed_removal_leaves_the_initial_versions(peer: Peer) -> None:
    """Names under a wildcard ("ambiguous") do not arise here: a type is the wildcard, or goes by names, for good."""
    peer.push(CDS, {"a": "1", "b": "1"}, version="v1")
    peer.push(CDS, removed=["a"], version="v2")
    peer.reopen()
    assert by_kind(peer)["CDS"].initial == {"b": "v1"}


@DELTA
def test_behaviour_26_the_wildcard_stays_the_empty_request(peer: Peer) -> None:
    """There is no change from wildcard to names, which would need "*" to be named."""
    for _ in range(2):
        got = by_kind(peer)["LDS"] if peer.sent else None
        assert got is None or (got.names, got.unsubscribed) == ((), ())
        peer.reopen()
    with pytest.raises(AssertionError):
        peer.subscribe(LDS, "a")


@BOTH
@pytest.mark.parametrize(
    ("steps", "want_sotw", "want_delta"),
    [
        pytest.param([["a", "b", "c"], ["b", "c", "d"]], ("b", "c", "d"), (("c", "d"), ("a",)), id="both"),
        pytest.param([["b"], ["a", "b"]], None, None, id="remove_then_add"),
        pytest.param([["a", "b", "c"], ["a", "b"]], None, None, id="add_then_remove"),
        pytest.param([["a", "b", "c"], ["a", "b"], ["a", "b", "c"]], ("a", "b", "c"), (("c",), ()), id="add_again"),
    ],
)
def test_behaviour_27_changes_between_requests_are_one_request(
    peer: Peer, steps: list[list[str]], want_sotw: tuple[str, ...] | None, want_delta: tuple | None
) -> None:
    peer.subscribe(EDS, "a", "b")
    for names in steps:
        peer.core.table.subscribe(EDS.type_url, names)
    got = [(sent.names, sent.unsubscribed) for sent in peer.take()]
    want = want_delta if peer.is_delta else want_sotw and (want_sotw, ())
    assert got == ([want] if want else [])


def wrap(kind: ResourceType, name: str, value: str | None, version: str, ttl_s: int | None) -> discovery_pb2.Resource:
    wrapper = discovery_pb2.Resource(name=name, version=version)
    if value is not None:
        wrapper.resource.CopyFrom(build_any(kind, name, value))
    if ttl_s is not None:
        wrapper.ttl.seconds = ttl_s
    return wrapper


@BOTH
@pytest.mark.parametrize("kind", [EDS, CDS], ids=lambda k: k.name)
def test_behaviour_28_ttl(peer: Peer, kind: ResourceType) -> None:
    if not kind.is_full_state:
        peer.subscribe(kind, "a", "b")
    resources = [wrap(kind, "a", "1", "v1", 10), wrap(kind, "b", "1", "v1", None)]
    assert changed(peer.push(kind, wrapped=resources)) == {"a": "1", "b": "1"}

    assert peer.pass_time(9) == []
    update = peer.push(kind, wrapped=[wrap(kind, "a", None, "v1", 10)])
    assert (update.changed, update.removed, update.errors) == ({}, set(), ()), "a heartbeat is no update"
    assert sole(peer.sent).error == ""

    assert peer.pass_time(9) == []
    peer.push(kind, wrapped=[wrap(kind, "a", "2", "v2", None), wrap(kind, "b", "1", "v2", None)], version="v2")
    assert peer.pass_time(1000) == [], "an update without a TTL takes it away"

    peer.push(kind, wrapped=[wrap(kind, "a", "3", "v3", 5), wrap(kind, "b", "1", "v3", None)], version="v3")
    peer.lose()
    assert sole(peer.pass_time(5.1)).removed == {"a"}, "a TTL goes on without a stream"
    assert set(peer.held(kind)) == {"b"}


@BOTH
def test_behaviour_28_a_body_is_only_left_out_of_a_version_that_is_held(peer: Peer) -> None:
    peer.push(CDS, wrapped=[wrap(CDS, "a", "1", "v1", 10)])
    update = peer.push(CDS, wrapped=[wrap(CDS, "a", None, "v2", 10), wrap(CDS, "b", None, "v2", 10)], version="v2")
    assert [error.name for error in update.errors] == ["a", "b"]
    assert set(peer.held(CDS)) == {"a"}


@BOTH
def test_behaviour_29_type_url_of_the_resource_differs_from_the_response(peer: Peer) -> None:
    update = peer.push(LDS, {"good": "1"}, raw=[build_any(CDS, "a", "1")])
    assert changed(update) == {"good": "1"}
    assert CDS.type_url in sole(peer.sent).error


@BOTH
def test_behaviour_30_no_change_sends_nothing_and_a_fresh_stream_always_sends(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.subscribe(EDS, "a")
    assert peer.sent == []
    assert peer.take() == []
    assert [sent.kind for sent in peer.reopen()] == ["CDS", "EDS", "LDS"]


@DELTA
def test_behaviour_31_rejected_resources_are_not_retained(peer: Peer) -> None:
    peer.push(CDS, {"kept": "1", "mended": "1"}, version="v1")
    peer.push(CDS, {"kept": "bad", "new": "bad", "mended": "2"}, version="v2")
    peer.reopen()
    assert by_kind(peer)["CDS"].initial == {"kept": "v1", "mended": "v2"}


@BOTH
@pytest.mark.parametrize("kind", [CDS, LDS], ids=lambda k: k.name)
def test_behaviour_32_an_empty_first_answer_is_told_so_that_readiness_can_be_judged(
    peer: Peer, kind: ResourceType
) -> None:
    """Readiness itself is the consumer's: it needs to hear of every type's first answer, changes or not."""
    assert peer.state(kind).responses == 0
    update = peer.push(kind, {}, version="v1")
    assert (update.type_url, update.version, update.changed, update.errors) == (kind.type_url, "v1", {}, ())
    assert peer.state(kind).responses == 1


@BOTH
def test_behaviour_35_versions_and_nonces_are_opaque(peer: Peer) -> None:
    """That they grow is the server's business: a server that counts anew after a restart is believed."""
    for version, value in (("9", "1"), ("1", "2"), ("", "3")):
        update = peer.push(LDS, {"a": value}, version=version)
        assert changed(update) == {"a": value}
        got = sole(peer.sent)
        assert peer.is_delta or got.version == version
        assert not got.error


@BOTH
def test_behaviour_36_endpoints_may_come_before_clusters_and_again_after_them(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    peer.push(CDS, {"a": "1"})
    peer.push(EDS, {"a": "1"}, version="e1")
    peer.reopen()
    assert by_kind(peer)["EDS"].names == ("a",), "without waiting for clusters"
    assert changed(peer.push(EDS, {"a": "2"}, version="e2")) == {"a": "2"}
    peer.push(CDS, {"a": "1"}, version="c2")
    update = peer.push(EDS, {"a": "2"}, version="e2")
    assert (update.changed, update.errors, sole(peer.sent).error) == ({}, (), "")


@BOTH
def test_behaviour_37_route_names_are_exactly_those_asked_for(peer: Peer) -> None:
    got = []
    for names in (["A"], ["B"], ["A", "B"], ["A"], []):
        peer.subscribe(RDS, *names)
        got.append([(sent.names, sent.unsubscribed) for sent in peer.sent])
    sotw = [(("A",), ()), (("B",), ()), (("A", "B"), ()), (("A",), ()), ((), ())]
    delta = [(("A",), ()), (("B",), ("A",)), (("A",), ()), ((), ("B",)), ((), ("A",))]
    assert got == [[want] for want in (delta if peer.is_delta else sotw)]


@BOTH
def test_behaviour_37_nothing_is_asked_of_a_type_without_names(peer: Peer) -> None:
    peer.subscribe(RDS)
    assert peer.sent == []
    peer.subscribe(RDS, "A")
    peer.subscribe(RDS)
    assert "RDS" not in [sent.kind for sent in peer.reopen()], "naming nothing first would be the wildcard"


@BOTH
def test_behaviour_37_an_unknown_route_comes_empty_and_exists_all_the_same(peer: Peer) -> None:
    """istiod answers for a name that it does not know with an empty RouteConfiguration."""
    peer.subscribe(RDS, "A")
    update = peer.push(RDS, {"A": ""})
    assert (changed(update), update.removed, sole(peer.sent).error) == ({"A": ""}, set(), "")
    assert peer.pass_time(1000) == []


@DELTA
def test_behaviour_39_removal_lists_only_the_removed(peer: Peer) -> None:
    peer.push(CDS, {"a": "1", "b": "1", "c": "1"})
    update = peer.push(CDS, removed=["b"], version="v2")
    assert (update.changed, update.removed, set(peer.held(CDS))) == ({}, {"b"}, {"a", "c"})


@DELTA
def test_behaviour_39_a_cluster_deleted_while_disconnected_is_removed_on_reconnect(peer: Peer) -> None:
    peer.push(CDS, {"a": "1", "b": "1"})
    assert by_kind_after_reopen(peer)["CDS"].initial == {"a": "v1", "b": "v1"}
    update = peer.push(CDS, {"a": "1"}, removed=["b"], version="v2")
    assert (update.changed, update.removed) == ({}, {"b"})


def by_kind_after_reopen(peer: Peer) -> dict:
    peer.reopen()
    return by_kind(peer)


@BOTH
def test_behaviour_40_an_endpoint_update_touches_only_its_name_and_deletion_is_an_empty_assignment(
    peer: Peer,
) -> None:
    peer.subscribe(EDS, "a", "b")
    peer.push(EDS, {"a": "1", "b": "1"})
    update = peer.push(EDS, {"a": ""}, version="v2")
    assert (changed(update), update.removed) == ({"a": ""}, set())
    assert peer.held(EDS)["b"] == build_any(EDS, "b", "1").value


@BOTH
def test_behaviour_41_a_name_that_was_never_sent_is_not_unsubscribed(peer: Peer) -> None:
    peer.core.table.subscribe(EDS.type_url, ["a"])
    peer.subscribe(EDS)
    assert peer.sent == []
    assert not peer.state(EDS).is_rejected


@BOTH
def test_behaviour_43_a_response_on_its_way_when_its_name_was_dropped(peer: Peer) -> None:
    """A stale nonce is judged by the server; here the late resource is ignored, and answered."""
    peer.subscribe(EDS, "a", "b")
    peer.push(EDS, {"a": "1", "b": "1"})
    peer.subscribe(EDS, "b")
    update = peer.push(EDS, {"a": "2"}, version="v2")
    assert (update.changed, set(peer.held(EDS))) == ({}, {"b"})
    assert (sole(peer.sent).nonce, sole(peer.sent).error) == ("n2", "")
    peer.subscribe(EDS)
    update = peer.push(EDS, {"b": "2"}, version="v3")
    assert (update.changed, peer.held(EDS)) == ({}, {})
    got = sole(peer.sent)
    assert (got.nonce, got.names) == ("n3", ())


@BOTH
def test_behaviour_44_dependencies_are_fetched_in_turn_and_the_second_cluster_is_removed(peer: Peer) -> None:
    peer.push(CDS, {"c1": "", "c2": ""}, version="1")
    peer.subscribe(EDS, "c1", "c2")
    peer.push(EDS, {"c1": "x", "c2": "x"}, version="1")
    peer.push(LDS, {"l": "r1"}, version="1")
    peer.subscribe(RDS, "r1")
    peer.push(RDS, {"r1": "c1"}, version="1")
    update = peer.remove(CDS, "c2", version="2")
    assert (update.changed, update.removed) == ({}, {"c2"})
    peer.subscribe(EDS, "c1")
    got = sole(peer.sent)
    assert (got.names, got.unsubscribed) == (((), ("c2",)) if peer.is_delta else (("c1",), ()))
    held = {kind.name: set(peer.held(kind)) for kind in KINDS}
    assert held == {"CDS": {"c1"}, "EDS": {"c1"}, "LDS": {"l"}, "RDS": {"r1"}}


@BOTH
def test_behaviour_45_endpoints_that_come_and_go_leave_nothing_stale(peer: Peer) -> None:
    peer.subscribe(EDS, "a")
    for number, value in enumerate(["1", "", "1", "", "1"]):
        update = peer.push(EDS, {"a": value}, version=f"v{number}")
        assert changed(update) == {"a": value}
        assert peer.held(EDS) == {"a": build_any(EDS, "a", value).value}


def test_every_behaviour_is_tested_or_not_applicable() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = {int(number) for number in re.findall(r"def test_behaviour_(\d\d)_", sources)}
    assert tested | NOT_APPLICABLE.keys() == set(range(1, 46))
    assert not tested & NOT_APPLICABLE.keys()


@BOTH
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(AnyMessage(type_url=LDS.type_url, value=b"\xff\xff"), "not protobuf", id="not_protobuf"),
        pytest.param(build_any(LDS, "", "1"), "is empty", id="no_name"),
        pytest.param(AnyMessage(), "is ''", id="empty_any"),
    ],
)
def test_a_resource_that_nobody_can_name_deletes_nothing(peer: Peer, raw: AnyMessage, reason: str) -> None:
    peer.push(LDS, {"a": "1", "b": "1"}, version="v1")
    update = peer.push(LDS, {"a": "2"}, raw=[raw], version="v2")
    assert (changed(update), update.removed, set(peer.held(LDS))) == ({"a": "2"}, set(), {"a", "b"})
    assert reason in sole(peer.sent).error
