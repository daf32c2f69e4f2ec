"""kmesh.xds.server.delta: what an incremental stream is told, and when."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from kmesh.errors import ProtocolError
from kmesh.xds.server.delta import DeltaStream
from kmesh.xds.server.exchange import PATIENCE_S, Answer
from tests.support.ads_driver import DeltaDriver, Told, assignment, catalog_of, cluster, listener, route

EVERYTHING = catalog_of(cluster("a"), cluster("b"), assignment("a"), assignment("b"), listener("l"), route("r"))

FIRST_REQUESTS = {
    "an empty list is every cluster": ("CDS", (), Told("CDS", ("a", "b"))),
    "a star is every cluster": ("CDS", ("*",), Told("CDS", ("a", "b"))),
    "one cluster by name": ("CDS", ("b",), Told("CDS", ("b",))),
    "an unknown cluster is answered": ("CDS", ("x",), Told("CDS", (), ("x",))),
    "under a wildcard too": ("CDS", ("*", "x"), Told("CDS", ("a", "b"), ("x",))),
    "listeners too have a wildcard": ("LDS", (), Told("LDS", ("l",))),
    "endpoints by name": ("EDS", ("b", "a"), Told("EDS", ("a", "b"))),
    "unknown endpoints are answered": ("EDS", ("x", "b"), Told("EDS", ("b",), ("x",))),
    "an empty list of endpoints is none": ("EDS", (), Told("EDS")),
    "a star is all endpoints": ("EDS", ("*",), Told("EDS", ("a", "b"))),
    "a type nothing is known of": (
        "type.googleapis.com/example.Unknown",
        (),
        Told("type.googleapis.com/example.Unknown"),
    ),
}


@pytest.mark.parametrize(("kind", "names", "want"), FIRST_REQUESTS.values(), ids=FIRST_REQUESTS)
def test_first_request(kind: str, names: tuple[str, ...], want: Told) -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe(kind, *names)
    assert driver.drain() == [want]


def versions(*names: str) -> dict[str, str]:
    """Of EVERYTHING's clusters; those that it has not get one all the same."""
    found = EVERYTHING["type.googleapis.com/envoy.config.cluster.v3.Cluster"].by_name
    return {name: found[name].version if name in found else "1" for name in names}


RECONNECTS = {
    "up to date": ((), versions("a", "b"), Told("CDS")),
    "one is old": ((), versions("a") | {"b": "old"}, Told("CDS", ("b",))),
    "a version may be empty": ((), versions("a") | {"b": ""}, Told("CDS", ("b",))),
    "one is missing": ((), versions("a"), Told("CDS", ("b",))),
    "one by name is up to date": (("a",), versions("a"), Told("CDS")),
    "one by name is old": (("a", "b"), versions("a") | {"b": "old"}, Told("CDS", ("b",))),
    "versions of what is not subscribed do not matter": (("a",), versions("a", "gone"), Told("CDS")),
    "a star is spelled out": (("*", "a"), versions("a", "b"), Told("CDS")),
}


@pytest.mark.parametrize(("names", "initial", "want"), RECONNECTS.values(), ids=RECONNECTS)
def test_reconnect(names: tuple[str, ...], initial: dict[str, str], want: Told) -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS", *names, initial=initial)
    assert driver.drain() == [want]


@pytest.mark.parametrize("names", [(), ("gone",)], ids=["wildcard", "by name"])
def test_what_went_while_the_client_was_away_is_removed(names: tuple[str, ...]) -> None:
    driver = DeltaDriver(catalog_of())
    driver.subscribe("CDS", *names, initial={"gone": "1"})
    assert driver.drain() == [Told("CDS"), Told("CDS", (), ("gone",))]
    assert driver.drain() == []


def test_an_acknowledged_response_is_not_repeated_and_an_equal_catalog_says_nothing() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS")
    driver.next()
    receipt = driver.ack("CDS")
    assert (receipt.answer, receipt.is_stale) == (Answer.ACK, False)
    driver.catalog = catalog_of(cluster("a"), cluster("b"))
    assert driver.next() is None


def test_only_what_changed_is_sent() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS")
    driver.drain()
    before = dict(driver.versions)
    driver.catalog = catalog_of(cluster("a"), cluster("b", "changed"), cluster("c"))
    assert driver.drain() == [Told("CDS", ("b", "c"))]
    assert {name for name in driver.versions if driver.versions[name] != before.get(name)} == {"b", "c"}


def test_what_is_gone_is_removed_and_comes_back() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.drain()
    driver.catalog = catalog_of(assignment("b"))
    assert driver.drain() == [Told("EDS", (), ("a",))]
    driver.catalog = EVERYTHING
    assert driver.drain() == [Told("EDS", ("a",))]


def test_a_name_that_appears_later_is_told_then() -> None:
    driver = DeltaDriver(catalog_of())
    driver.subscribe("EDS", "a")
    assert driver.drain() == [Told("EDS", (), ("a",))]
    driver.catalog = EVERYTHING
    assert driver.drain() == [Told("EDS", ("a",))]


def test_a_name_subscribed_again_is_sent_again() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a", "b")
    driver.drain()
    driver.subscribe("EDS", "a")
    assert driver.drain() == [Told("EDS", ("a",))]
    driver.subscribe("EDS", "x")
    driver.subscribe("EDS", "x")
    assert driver.drain() == [Told("EDS", (), ("x",))]


def test_a_question_is_answered_before_the_last_answer_is_acknowledged() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.next()
    driver.subscribe("EDS", "b")
    assert driver.next() == Told("EDS", ("b",))


def test_an_unsubscribed_name_is_not_told_of() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a", "b")
    driver.drain()
    driver.unsubscribe("EDS", "a", "never subscribed")
    assert driver.drain() == []
    driver.catalog = catalog_of(assignment("a", "changed"))
    assert driver.drain() == [Told("EDS", (), ("b",))]


def test_a_name_unsubscribed_under_a_wildcard_is_answered() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS", "*", "a", "x")
    driver.drain()
    driver.unsubscribe("CDS", "a", "x")
    assert driver.drain() == [Told("CDS", ("a",), ("x",))]


def test_unsubscribing_the_wildcard_leaves_the_names() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS", "*", "a")
    driver.drain()
    driver.unsubscribe("CDS", "*")
    assert driver.drain() == []
    driver.catalog = catalog_of(cluster("a", "changed"), cluster("b", "changed"))
    assert driver.drain() == [Told("CDS", ("a",))]


def test_a_wildcard_may_come_later() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS", "a")
    driver.drain()
    driver.subscribe("CDS", "*")
    assert driver.drain() == [Told("CDS", ("b",))]


def test_a_first_request_that_takes_back_its_star_subscribes_to_nothing_and_is_answered() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.core.receive(
        DeltaDiscoveryRequest(
            type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster",
            resource_names_subscribe=["*"],
            resource_names_unsubscribe=["*"],
        )
    )
    assert driver.drain() == [Told("CDS")]


def test_a_stale_answer_is_none_but_the_names_beside_it_count() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.drain()
    old = driver.nonces["EDS"]
    driver.catalog = catalog_of(assignment("a", "changed"), assignment("b"))
    driver.next()
    receipt = driver.subscribe("EDS", "b", nonce=old)
    assert (receipt.answer, receipt.is_stale) == (None, True)
    assert driver.next() == Told("EDS", ("b",))


def test_a_spontaneous_request_is_no_answer() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.next()
    receipt = driver.subscribe("EDS", "b")
    assert (receipt.answer, receipt.is_stale) == (None, False)


def test_a_refused_response_is_not_repeated_until_something_changes() -> None:
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("CDS")
    driver.next()
    receipt = driver.nack("CDS", "a is bad")
    assert (receipt.answer, receipt.error) == (Answer.NACK, "a is bad")
    assert driver.next() is None
    driver.catalog = catalog_of(cluster("a", "mended"), cluster("b"))
    assert driver.drain() == [Told("CDS", ("a", "b"))]  # b may have been refused along with a


def test_while_a_response_is_unanswered_later_states_replace_each_other() -> None:
    driver = DeltaDriver(EVERYTHING)
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
    driver = DeltaDriver(EVERYTHING)
    driver.subscribe("EDS", "a")
    driver.next()
    driver.catalog = catalog_of(assignment("a", "changed"))
    assert driver.next() is None
    assert driver.core.deadline(driver.now) == driver.now + PATIENCE_S
    driver.now += PATIENCE_S
    assert driver.next() == Told("EDS", ("a",))


def test_endpoints_follow_a_changed_cluster_since_envoy_warms_it_with_them() -> None:
    driver = DeltaDriver(catalog_of(cluster("a", service="e"), cluster("b"), assignment("e"), assignment("b")))
    driver.subscribe("CDS")
    driver.subscribe("EDS", "e", "b")
    driver.drain()
    driver.catalog = catalog_of(cluster("a", "changed", service="e"), cluster("b"), assignment("e"), assignment("b"))
    assert driver.drain() == [Told("CDS", ("a",)), Told("EDS", ("e",))]


def test_a_request_without_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="type_url"):
        DeltaStream().receive(DeltaDiscoveryRequest())
