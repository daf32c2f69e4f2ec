"""kmesh.xds.server.catalog: packing, versions and lookup."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address

from kmesh.xds.server.catalog import CDS, EDS, LDS, Catalog, Resource
from tests.support.ads_driver import assignment, catalog_of, cluster, listener

NAMES = {
    "name": (listener("l"), "l"),
    "cluster_name": (assignment("a"), "a"),
}


@pytest.mark.parametrize(("message", "want"), NAMES.values(), ids=NAMES)
def test_a_resource_has_the_name_of_its_message(message: object, want: str) -> None:
    got = Resource.pack(message).name
    assert got == want


@pytest.mark.parametrize("message", [Cluster(), Address()], ids=["empty name", "no such field"])
def test_a_message_without_name_is_no_resource(message: object) -> None:
    with pytest.raises(ValueError, match="has no name"):
        Resource.pack(message)


def test_a_version_is_the_digest_of_the_content() -> None:
    one, same, other = (Resource.pack(m).version for m in (cluster("a"), cluster("a"), cluster("a", "changed")))
    assert one == same != other


ASSIGNMENTS = {
    "by the cluster's name": (cluster("a"), "a"),
    "by another name": (cluster("a", service="e"), "e"),
    "from another source": (Cluster(name="a", type=Cluster.EDS), ""),
    "not of type EDS": (Cluster(name="a", type=Cluster.STATIC), ""),
    "not a cluster": (listener("a"), ""),
}


@pytest.mark.parametrize(("message", "want"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_the_assignment_a_cluster_warms_with(message: object, want: str) -> None:
    got = Resource.pack(message).assignment
    assert got == want


def test_a_catalog_finds_sets_by_type() -> None:
    catalog = catalog_of(cluster("a"), assignment("a"), cluster("b"))
    assert len(catalog) == 3
    assert list(catalog[CDS].by_name) == ["a", "b"]
    assert list(catalog[EDS].by_name) == ["a"]
    assert dict(catalog[LDS].by_name) == {}


def test_the_version_of_a_set_does_not_depend_on_order() -> None:
    assert catalog_of(cluster("a"), cluster("b"))[CDS].version == catalog_of(cluster("b"), cluster("a"))[CDS].version
    assert catalog_of(cluster("a"))[CDS].version != catalog_of(cluster("b"))[CDS].version


def test_one_name_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="Cluster 'a' is given twice"):
        Catalog.of([Resource.pack(cluster("a")), Resource.pack(cluster("a", "other"))])


def test_assignments_that_clusters_want_and_nobody_gives() -> None:
    catalog = catalog_of(cluster("a"), cluster("b", service="e"), cluster("c"), assignment("a"))
    assert catalog.find_missing_assignments() == ["c", "e"]
