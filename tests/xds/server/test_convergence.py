"""Whatever the order of changes, subscriptions and answers, a client ends up with what is served."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.xds.server.catalog import CDS, EDS, Catalog
from kmesh.xds.server.exchange import PATIENCE_S
from tests.support.ads_driver import DeltaDriver, SotwDriver, Told, assignment, catalog_of, cluster

NAMES = ("a", "b", "c")
TYPE_URLS = {"CDS": CDS, "EDS": EDS}

names = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("123"))
steps = st.one_of(
    st.tuples(st.just("publish"), contents, contents),
    st.tuples(st.just("subscribe"), names),
    st.tuples(st.just("unsubscribe"), names),
    st.tuples(st.just("read"), st.sampled_from(("ack", "nack", "silence"))),
    st.tuples(st.just("wait"), st.floats(0, PATIENCE_S)),
)


def build(clusters: dict[str, str], assignments: dict[str, str]) -> Catalog:
    made = [cluster(name, value) for name, value in sorted(clusters.items())]
    return catalog_of(*made, *(assignment(name, value) for name, value in sorted(assignments.items())))


class Client:
    """All clusters and some assignments; has what it was told, by kind and name."""

    def __init__(self, driver: SotwDriver | DeltaDriver) -> None:
        self.driver = driver
        self.has: dict[str, dict[str, str]] = {"CDS": {}, "EDS": {}}
        self.wants: set[str] = set()
        driver.subscribe("CDS")

    def subscribe(self, more: tuple[str, ...]) -> None:
        self.wants.update(more)
        if isinstance(self.driver, SotwDriver):
            self.driver.subscribe("EDS", *sorted(self.wants))
        else:
            self.driver.subscribe("EDS", *more)

    def unsubscribe(self, fewer: tuple[str, ...]) -> None:
        self.wants.difference_update(fewer)
        for name in fewer:
            self.has["EDS"].pop(name, None)
        if isinstance(self.driver, SotwDriver):
            self.driver.subscribe("EDS", *sorted(self.wants))
        else:
            self.driver.unsubscribe("EDS", *fewer)

    def read(self, answer: str) -> Told | None:
        told = self.driver.next()
        if told is None:
            return None
        if answer == "nack":
            self.driver.nack(told.kind)
            return told
        if told.kind == "CDS" and isinstance(self.driver, SotwDriver):
            self.has["CDS"].clear()
        resources = self.driver.catalog[TYPE_URLS[told.kind]].by_name
        for name in told.names:
            # A cluster that is kept for now is told as it was: what matters is that it goes in the end.
            self.has[told.kind][name] = resources[name].version if name in resources else "kept"
        for name in told.removed:
            self.has[told.kind].pop(name, None)
        if answer == "ack":
            self.driver.ack(told.kind)
        return told


def check(driver: SotwDriver | DeltaDriver, script: list[tuple[object, ...]]) -> None:
    client = Client(driver)
    for step in script:
        match step:
            case ("publish", dict() as clusters, dict() as assignments):
                driver.catalog = build(clusters, assignments)
            case ("subscribe", tuple() as more):
                client.subscribe(more)
            case ("unsubscribe", tuple() as fewer):
                client.unsubscribe(fewer)
            case ("read", str() as answer):
                client.read(answer)
            case ("wait", float() as seconds):
                driver.now += seconds
    # One last state, since what was refused is only sent again with a change.
    driver.catalog = build({"a": "last", "c": "last"}, {"a": "last", "b": "last"})
    for _ in range(4):
        driver.now += PATIENCE_S
        for _ in range(20):
            if client.read("ack") is None:
                break
        else:
            raise AssertionError("the server does not come to rest")
    got = {name: version for name, version in client.has["EDS"].items() if name != "c"}
    served = driver.catalog[EDS].by_name
    assert got == {name: served[name].version for name in client.wants & served.keys()}
    assert client.has["CDS"] == {name: r.version for name, r in driver.catalog[CDS].by_name.items()}
    assert driver.core.deadline(driver.now) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_sotw(script: list[tuple[object, ...]]) -> None:
    check(SotwDriver(build({}, {})), script)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_delta(script: list[tuple[object, ...]]) -> None:
    check(DeltaDriver(build({}, {})), script)
