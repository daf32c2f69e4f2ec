"""kmesh.xds.server.sotw: what a State-of-the-World stream is told, and when."""

from __future__ import annotations

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from kmesh.errors import ProtocolError
from kmesh.xds.server.catalog import type_url_of
from kmesh.xds.server.exchange import PATIENCE_S, Answer
from kmesh.xds.server.sotw import SotwStream
from tests.support.ads_driver import SotwDriver, Told, assignment, catalog_of, cluster, listener, route

SDS = type_url_of(Secret)
EVERYTHING = catalog_of(
    cluster("a"), cluster("b"), assignment("a"), assignment("b"), listener("l"), route("r"), Secret(name="s")
)

FIRST_REQUESTS = {
    "an empty list is every cluster": ("CDS", (), Told("CDS", ("a", "b"))),
    "a star is every cluster": ("CDS", ("*",), Told("CDS", ("a", "b"))),
    "a star with a name is every cluster": ("CDS", ("*", "a"), Told("CDS", ("a", "b"))),
    "one cluster by name": ("CDS", ("b",), Told("CDS", ("b",))),
    "an unknown cluster is not in the set": ("CDS", ("x",), Told("CDS")),
    "listeners too have a wildcard": ("LDS", (), Told("LDS", ("l",))),
    "endpoints by name": ("EDS", ("b", "a"), Told("EDS", ("a", "b"))),
    "endpoints that exist": ("EDS", ("x", "b"), Told("EDS", ("b",))),
    "endpoints that do not": ("EDS", ("x",), None),
    "an empty list of endpoints is none": ("EDS", (), None),
    "a star is all endpoints": ("EDS", ("*",), Told("EDS", ("a", "b"))),
    "an empty list of routes is none": ("RDS", (), None),
    "any other type": (SDS, ("s",), Told(SDS, ("s",))),
    "a type nothing is known of": (
        "type.googleapis.com/example.Unknown",
        (),
        Told("type.googleapis.com/example.Unknown"),
    ),
}


@pytest.mark.parametrize(("kind", "names", "want"), FIRST_REQUESTS.values(), ids=FIRST_REQUESTS)
def test_first_request(kind: str, names: tuple[str, ...], want: Told | None) -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe(kind, *names)
    got = driver.next()
    assert got == want
    assert driver.next() is None


def test_an_empty_catalog_is_an_answer_for_types_whose_absence_deletes() -> None:
    driver = SotwDriver(catalog_of())
    for kind in ("CDS", "LDS", "EDS"):
        driver.subscribe(kind)
    assert driver.drain() == [Told("CDS"), Told("LDS")]


def test_an_acknowledged_response_is_not_repeated_and_an_equal_catalog_says_nothing() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("CDS")
    driver.next()
    receipt = driver.ack("CDS")
    assert (receipt.answer, receipt.is_stale) == (Answer.ACK, False)
    driver.catalog = catalog_of(cluster("a"), cluster("b"))
    assert driver.next() is None


def test_each_response_has_its_own_nonce_and_the_version_follows_the_content() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("CDS")
    driver.drain()
    before = driver.versions["CDS"], driver.nonces["CDS"]
    driver.catalog = catalog_of(cluster("a", "changed"), cluster("b"))
    driver.drain()
    changed = driver.versions["CDS"], driver.nonces["CDS"]
    driver.catalog = EVERYTHING
    driver.drain()
    assert changed[0] != before[0] and driver.versions["CDS"] == before[0]
    assert len({before[1], changed[1], driver.nonces["CDS"]}) == 3


def test_types_whose_absence_means_nothing_send_only_what_changed() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a", "b")
    driver.drain()
    driver.catalog = catalog_of(assignment("a"), assignment("b", "changed"))
    assert driver.drain() == [Told("EDS", ("b",))]
    driver.catalog = catalog_of(assignment("a"))
    assert driver.drain() == []


def test_a_request_for_more_names_is_answered_with_those() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.drain()
    driver.subscribe("EDS", "a", "b")
    assert driver.drain() == [Told("EDS", ("b",))]


def test_a_request_for_more_clusters_is_answered_with_the_whole_set() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("CDS", "a")
    driver.drain()
    driver.subscribe("CDS", "a", "b")
    assert driver.drain() == [Told("CDS", ("a", "b"))]


def test_a_request_for_fewer_names_is_not_answered_and_the_rest_still_is() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a", "b")
    driver.drain()
    driver.subscribe("EDS", "b")
    assert driver.drain() == []
    driver.catalog = catalog_of(assignment("a", "changed"), assignment("b", "changed"))
    assert driver.drain() == [Told("EDS", ("b",))]


def test_a_name_that_comes_back_is_answered_again() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("RDS", "r")
    driver.drain()
    driver.subscribe("RDS")
    assert driver.drain() == []
    driver.subscribe("RDS", "r")
    assert driver.drain() == [Told("RDS", ("r",))]


def test_once_a_name_was_given_an_empty_list_is_no_wildcard() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("CDS", "a")
    driver.drain()
    driver.subscribe("CDS")
    driver.catalog = catalog_of(cluster("a", "changed"), cluster("b", "changed"))
    assert driver.drain() == []


def test_a_name_that_appears_later_is_told_then() -> None:
    driver = SotwDriver(catalog_of())
    driver.subscribe("EDS", "a")
    assert driver.drain() == []
    driver.catalog = EVERYTHING
    assert driver.drain() == [Told("EDS", ("a",))]


def test_a_stale_request_changes_nothing() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.drain()
    old = driver.nonces["EDS"]
    driver.catalog = catalog_of(assignment("a", "changed"), assignment("b"))
    driver.next()
    receipt = driver.subscribe("EDS", "a", "b", nonce=old)
    assert (receipt.answer, receipt.is_stale) == (None, True)
    assert driver.next() is None
    driver.ack("EDS")
    assert driver.drain() == [Told("EDS", ("b",))]


def test_a_refused_response_is_not_repeated_until_something_changes() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a", "b")
    driver.next()
    receipt = driver.nack("EDS", "a is bad")
    assert (receipt.answer, receipt.error) == (Answer.NACK, "a is bad")
    assert driver.next() is None
    driver.catalog = catalog_of(assignment("a", "mended"), assignment("b"))
    assert driver.drain() == [Told("EDS", ("a", "b"))]  # b may have been refused along with a


def test_while_a_response_is_unanswered_later_states_replace_each_other() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.next()
    for value in ("1", "2", "3"):
        driver.catalog = catalog_of(assignment("a", value))
        assert driver.next() is None
    driver.ack("EDS")
    assert driver.next() == Told("EDS", ("a",))
    driver.ack("EDS")
    assert driver.next() is None


def test_an_answer_that_never_comes_is_not_waited_for_longer_than_patience() -> None:
    driver = SotwDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.next()
    driver.catalog = catalog_of(assignment("a", "changed"))
    assert driver.next() is None
    assert driver.core.deadline(driver.now) == driver.now + PATIENCE_S
    driver.now += PATIENCE_S
    assert driver.next() == Told("EDS", ("a",))


def test_endpoints_follow_a_changed_cluster_since_envoy_warms_it_with_them() -> None:
    driver = SotwDriver(catalog_of(cluster("a", service="e"), cluster("b"), assignment("e"), assignment("b")))
    driver.subscribe("CDS")
    driver.subscribe("EDS", "e", "b")
    driver.drain()
    driver.catalog = catalog_of(cluster("a", "changed", service="e"), cluster("b"), assignment("e"), assignment("b"))
    assert driver.drain() == [Told("CDS", ("a", "b")), Told("EDS", ("e",))]


def test_the_node_is_the_first_that_is_given() -> None:
    core = SotwStream()
    for node in ("first", "", "second"):
        request = DiscoveryRequest(type_url=SDS)
        request.node.id = node
        core.receive(request)
    assert core.node_id == "first"


def test_a_request_without_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="type_url"):
        SotwStream().receive(DiscoveryRequest())
