"""kmesh.xds.server.order: make before break, in both variants, and what ends the waiting."""

from __future__ import annotations

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from kmesh.xds.server.catalog import type_url_of
from kmesh.xds.server.exchange import PATIENCE_S
from tests.support.ads_driver import (
    DeltaDriver,
    SotwDriver,
    Told,
    assignment,
    catalog_of,
    cluster,
    listener,
    route,
)

SDS = type_url_of(Secret)
Driver = type[SotwDriver] | type[DeltaDriver]
BEFORE = catalog_of(cluster("old"), assignment("old"), listener("l", "old"), route("r", "old"))
AFTER = catalog_of(cluster("new"), assignment("new"), listener("l", "new"), route("r", "new"))

both_variants = pytest.mark.parametrize("variant", [SotwDriver, DeltaDriver], ids=["sotw", "delta"])


def connect(variant: Driver) -> SotwDriver | DeltaDriver:
    """A client that has all of BEFORE."""
    driver = variant(BEFORE)
    driver.subscribe("CDS")
    driver.subscribe("EDS", "old")
    driver.subscribe("LDS")
    driver.subscribe("RDS", "r")
    assert [told.kind for told in driver.drain()] == ["CDS", "EDS", "LDS", "RDS"]
    return driver


@both_variants
def test_what_listeners_use_is_made_before_they_switch_and_taken_away_after(variant: Driver) -> None:
    driver = connect(variant)
    is_sotw = variant is SotwDriver
    driver.catalog = AFTER
    # SotW: the response that adds one cluster keeps the other, since absence would delete it.
    assert driver.next() == Told("CDS", ("old", "new") if is_sotw else ("new",))
    assert driver.next() is None
    # Envoy asks for the new cluster's endpoints, and acknowledges the cluster once it is warm.
    driver.subscribe("EDS", *(("old", "new") if is_sotw else ("new",)))
    assert driver.next() == Told("EDS", ("new",))
    driver.ack("EDS")
    assert driver.next() is None
    driver.ack("CDS")
    assert driver.next() == Told("LDS", ("l",))
    assert driver.next() == Told("RDS", ("r",))
    driver.ack("LDS")
    assert driver.next() is None
    driver.ack("RDS")
    assert driver.next() == Told("CDS", ("new",) if is_sotw else (), () if is_sotw else ("old",))


@both_variants
def test_routes_that_a_listener_asks_for_hold_back_the_removal(variant: Driver) -> None:
    driver = connect(variant)
    driver.catalog = catalog_of(listener("l", "new"), route("r", "old"), route("r2"))
    assert driver.next() == Told("LDS", ("l",))
    driver.subscribe("RDS", "r", "r2")
    driver.ack("LDS")
    told = driver.next()
    assert told is not None and told.kind == "RDS" and "r2" in told.names
    assert driver.next() is None
    driver.ack("RDS")
    told = driver.next()
    assert told is not None and told.kind == "CDS"


@both_variants
def test_a_refused_listener_holds_back_the_removal_of_what_it_used_while_patience_lasts(variant: Driver) -> None:
    driver = connect(variant)
    driver.catalog = catalog_of(listener("l", "bad"), route("r", "old"))
    assert driver.next() == Told("LDS", ("l",))
    driver.nack("LDS")
    assert driver.next() is None
    driver.now += PATIENCE_S
    told = driver.next()
    assert told is not None and told.kind == "CDS"


@both_variants
def test_a_cluster_that_is_never_acknowledged_does_not_stop_its_listener(variant: Driver) -> None:
    driver = connect(variant)
    driver.catalog = catalog_of(
        cluster("old"), cluster("cold"), assignment("old"), listener("l", "new"), route("r", "old")
    )
    assert driver.next() is not None
    assert driver.next() is None
    assert driver.core.deadline(driver.now) == driver.now + PATIENCE_S
    driver.now += PATIENCE_S
    assert driver.next() == Told("LDS", ("l",))


@both_variants
def test_endpoints_that_change_all_the_time_do_not_stop_a_listener(variant: Driver) -> None:
    driver = connect(variant)
    told: list[Told | None] = []
    for step in range(12):
        driver.catalog = catalog_of(
            cluster("old"), assignment("old", f"{step}"), listener("l", "new"), route("r", "old")
        )
        told.append(driver.next())
        driver.now += PATIENCE_S / 10
        if told[-1] is not None and told[-1].kind == "EDS":
            driver.catalog = catalog_of(
                cluster("old"), assignment("old", f"{step}b"), listener("l", "new"), route("r", "old")
            )
            driver.ack("EDS")
    kinds = [one.kind for one in told if one]
    assert kinds == ["EDS"] * 10 + ["LDS", "EDS"]


@both_variants
def test_a_listener_goes_with_its_cluster(variant: Driver) -> None:
    driver = connect(variant)
    driver.catalog = catalog_of()
    assert driver.next() == Told("LDS", (), () if variant is SotwDriver else ("l",))
    driver.ack("LDS")
    later = [told.kind for told in driver.drain()]
    assert later == (["CDS"] if variant is SotwDriver else ["RDS", "CDS", "EDS"])


@both_variants
def test_types_outside_the_order_have_their_turn_at_once(variant: Driver) -> None:
    driver = connect(variant)
    driver.catalog = AFTER
    driver.next()
    driver.catalog = catalog_of(cluster("new"), listener("l", "new"), Secret(name="s"))
    driver.subscribe(SDS, "s")
    assert driver.next() == Told(SDS, ("s",))


@both_variants
def test_nothing_is_sent_that_was_not_asked_for(variant: Driver) -> None:
    driver = variant(BEFORE)
    driver.subscribe("LDS")
    assert driver.drain() == [Told("LDS", ("l",))]
    driver.catalog = AFTER
    assert driver.drain() == [Told("LDS", ("l",))]
    assert driver.core.deadline(driver.now) is None
