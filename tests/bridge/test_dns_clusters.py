"""DNS clusters kept resolved, against a real DNS server on the loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import dns.rcode
import pytest

from kmesh.bridge.dns_clusters import DnsClusters
from kmesh.bridge.resolver import Resolver
from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, DnsFamily, DnsOptions
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Health, Locality, LocalityEndpoints
from tests.support.dns import DnsServer, Reply, serve_dns

FAILS = Reply(rcode=dns.rcode.SERVFAIL)
GONE = Reply(rcode=dns.rcode.NXDOMAIN)
V4 = DnsOptions(family=DnsFamily.V4_ONLY, refresh_rate_s=0.05)
PAUSE_S = 0.3
"""Several refreshes at the rates of these tests."""


@dataclass
class World:
    """The system under test, its DNS server, and every assignment it told of."""

    server: DnsServer
    clusters: DnsClusters
    told: list[tuple[str, ClusterLoadAssignment]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, name: str, assignment: ClusterLoadAssignment) -> None:
        self.told.append((name, assignment))
        self.arrived.set()

    def watch(self, *clusters: Cluster) -> None:
        self.clusters.watch({c.name: c for c in clusters})

    async def next(self) -> tuple[str, list[str]]:
        """The next assignment told of: (cluster, addresses in order)."""
        while not self.told:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 5)
        name, assignment = self.told.pop(0)
        return name, addresses(assignment)

    def answer(self, name: str, *records: str, ttl: int = 60) -> None:
        self.server.zone[(name, "A")] = Reply(records=records, ttl=ttl)


@asynccontextmanager
async def world(
    tmp_path: Path, last_found: dict[str, tuple[str, ...]] | None = None, shortest_refresh_s: float = 0.02
) -> AsyncIterator[World]:
    async with serve_dns() as server, asyncio.timeout(15):
        resolver = Resolver(
            lambda sock: None,
            resolv_conf=server.write_resolv_conf(tmp_path / "resolv.conf", "options timeout:1 attempts:1"),
            hosts=tmp_path / "hosts",
            port=server.port,
        )
        heard: list[World] = []
        clusters = DnsClusters(
            resolver,
            lambda name, assignment: heard[0].hear(name, assignment),
            last_found=last_found,
            shortest_refresh_s=shortest_refresh_s,
        )
        heard.append(World(server, clusters))
        running = asyncio.create_task(clusters.run())
        try:
            yield heard[0]
        finally:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running


def strict(name: str, *hosts: str, options: DnsOptions = V4) -> Cluster:
    endpoints = tuple(Endpoint(HostAddress(host, 80)) for host in hosts)
    group = LocalityEndpoints(locality=Locality(), endpoints=endpoints)
    assignment = ClusterLoadAssignment(name=name, localities=(group,))
    return Cluster(name=name, discovery=Discovery.STRICT_DNS, assignment=assignment, dns=options)


def logical(name: str, host: str, options: DnsOptions = V4) -> Cluster:
    return replace(strict(name, host, options=options), discovery=Discovery.LOGICAL_DNS)


def addresses(assignment: ClusterLoadAssignment) -> list[str]:
    return [str(endpoint.address) for group in assignment.localities for endpoint in group.endpoints]


def test_strict_dns_makes_an_endpoint_of_each_address(tmp_path: Path) -> None:
    locality = Locality("eu", "a")
    assignment = ClusterLoadAssignment(
        name="c",
        overprovisioning_factor=200,
        localities=(
            LocalityEndpoints(
                locality=locality,
                weight=7,
                priority=1,
                endpoints=(
                    Endpoint(HostAddress("b.test", 80), 3, Health.DEGRADED, (), (("tls", "istio"),)),
                    Endpoint(SocketAddress.parse("10.9.9.9", 90)),
                ),
            ),
        ),
    )
    cluster = Cluster(name="c", discovery=Discovery.STRICT_DNS, assignment=assignment, dns=V4)

    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.2", "10.0.0.1")
            w.watch(cluster)
            assert await w.next() == ("c", ["10.0.0.1:80", "10.0.0.2:80", "10.9.9.9:90"])
            got = w.clusters.assignments["c"]
            assert got.overprovisioning_factor == 200
            (group,) = got.localities
            assert (group.locality, group.weight, group.priority) == (locality, 7, 1)
            assert group.endpoints[1] == assignment.localities[0].endpoints[0]._replace(
                address=SocketAddress.parse("10.0.0.2", 80)
            )

    asyncio.run(main())


def test_logical_dns_takes_the_first_address(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.2", "10.0.0.1")
            w.watch(logical("c", "b.test"))
            assert await w.next() == ("c", ["10.0.0.2:80"])
            w.answer("b.test.", "10.0.0.3", "10.0.0.2")
            assert await w.next() == ("c", ["10.0.0.3:80"])

    asyncio.run(main())


def test_logical_dns_of_both_families_is_one_endpoint_with_two_addresses(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.2", "10.0.0.1")
            w.server.zone[("b.test.", "AAAA")] = Reply(records=("2001:db8::2", "2001:db8::1"))
            w.watch(logical("c", "b.test", DnsOptions(family=DnsFamily.ALL)))
            assert await w.next() == ("c", ["10.0.0.2:80"])
            (endpoint,) = w.clusters.assignments["c"].localities[0].endpoints
            assert endpoint.additional == (SocketAddress.parse("2001:db8::2", 80),)

    asyncio.run(main())


def test_ipv6(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.1")
            w.server.zone[("b.test.", "AAAA")] = Reply(records=("2001:db8::2", "2001:db8::1"))
            w.watch(strict("c", "b.test", options=DnsOptions()))
            assert await w.next() == ("c", ["[2001:db8::1]:80", "[2001:db8::2]:80"])

    asyncio.run(main())


def test_only_changes_are_told_and_order_is_no_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.1", "10.0.0.2")
            w.watch(strict("c", "b.test"))
            await w.next()
            w.answer("b.test.", "10.0.0.2", "10.0.0.1")
            await asyncio.sleep(PAUSE_S)
            assert w.told == []
            assert len(w.server.asked) > 3
            w.answer("b.test.", "10.0.0.2", "10.0.0.3")
            assert await w.next() == ("c", ["10.0.0.2:80", "10.0.0.3:80"])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "ttl", "want_every_s"),
    [
        pytest.param(replace(V4, refresh_rate_s=0.1), 60, 0.1, id="refresh rate"),
        pytest.param(replace(V4, refresh_rate_s=60, respect_ttl=True), 5, None, id="not before the TTL"),
        pytest.param(replace(V4, refresh_rate_s=0.1, respect_ttl=True), 60, None, id="TTL over refresh rate"),
        pytest.param(replace(V4, refresh_rate_s=0.1, respect_ttl=True), 0, 0.1, id="TTL 0 is no TTL"),
        pytest.param(replace(V4, refresh_rate_s=0.0), 60, 0.1, id="never more often than the bound"),
    ],
)
def test_how_often_it_asks(options: DnsOptions, ttl: int, want_every_s: float | None, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, shortest_refresh_s=0.1) as w:
            w.answer("b.test.", "10.0.0.1", ttl=ttl)
            loop = asyncio.get_running_loop()
            start = loop.time()
            w.watch(strict("c", "b.test", options=options))
            await asyncio.sleep(0.45)
            got = len(w.server.asked)
            if want_every_s is None:
                assert got == 1
            else:
                assert 3 <= got <= 1 + (loop.time() - start) / want_every_s

    asyncio.run(main())


def test_the_ttl_is_respected(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.1", ttl=1)
            w.watch(strict("c", "b.test", options=replace(V4, refresh_rate_s=60, respect_ttl=True)))
            await w.next()
            start = asyncio.get_running_loop().time()
            w.answer("b.test.", "10.0.0.2", ttl=1)
            assert await w.next() == ("c", ["10.0.0.2:80"])
            assert 0.8 < asyncio.get_running_loop().time() - start < 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("cluster", "reply", "want"),
    [
        pytest.param(strict("c", "b.test"), FAILS, None, id="strict, failure keeps"),
        pytest.param(strict("c", "b.test"), Reply(is_silent=True), None, id="strict, silence keeps"),
        pytest.param(strict("c", "b.test"), GONE, [], id="strict, no such name empties"),
        pytest.param(strict("c", "b.test"), Reply(), [], id="strict, no records empty"),
        pytest.param(logical("c", "b.test"), FAILS, None, id="logical, failure keeps"),
        pytest.param(logical("c", "b.test"), GONE, None, id="logical, no such name keeps"),
        pytest.param(logical("c", "b.test"), Reply(), None, id="logical, no records keep"),
    ],
)
def test_after_a_good_answer(cluster: Cluster, reply: Reply, want: list[str] | None, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.1")
            w.watch(cluster)
            assert await w.next() == ("c", ["10.0.0.1:80"])
            w.server.zone[("b.test.", "A")] = reply
            if want is None:
                await asyncio.sleep(PAUSE_S if not reply.is_silent else 1.3)
                assert w.told == []
            else:
                assert await w.next() == ("c", want)
            w.answer("b.test.", "10.0.0.2")
            assert await w.next() == ("c", ["10.0.0.2:80"])

    asyncio.run(main())


@pytest.mark.parametrize("reply", [FAILS, GONE, Reply()], ids=["fails", "no such name", "no records"])
@pytest.mark.parametrize("make", [strict, logical])
def test_a_first_resolution_that_finds_nothing_is_told_too(
    make: Callable[[str, str], Cluster], reply: Reply, tmp_path: Path
) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.server.zone[("b.test.", "A")] = reply
            w.watch(make("c", "b.test"))
            assert await w.next() == ("c", [])
            w.answer("b.test.", "10.0.0.1")
            assert await w.next() == ("c", ["10.0.0.1:80"])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("family", "want"),
    [
        (DnsFamily.AUTO, ["[2001:db8::1]:80"]),
        (DnsFamily.V4_ONLY, ["10.0.0.1:80", "10.0.0.2:80"]),
        (DnsFamily.V6_ONLY, ["[2001:db8::1]:80"]),
        (DnsFamily.ALL, ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"]),
    ],
)
def test_saved_addresses_serve_while_no_server_answers(family: DnsFamily, want: list[str], tmp_path: Path) -> None:
    last_found = {"b.test": ("10.0.0.2", "10.0.0.1", "2001:db8::1")}

    async def main() -> None:
        async with world(tmp_path, last_found) as w:
            for kind in ("A", "AAAA"):
                w.server.zone[("b.test.", kind)] = FAILS
            w.watch(strict("c", "b.test", options=replace(V4, family=family)))
            assert await w.next() == ("c", want)
            for kind in ("A", "AAAA"):
                w.server.zone[("b.test.", kind)] = GONE
            assert await w.next() == ("c", [])

    asyncio.run(main())


def test_saved_addresses_serve_before_the_first_answer(tmp_path: Path) -> None:
    """A restarted bridge would else be without endpoints for as long as DNS takes."""

    async def main() -> None:
        async with world(tmp_path, {"b.test": ("10.0.0.2", "10.0.0.1")}) as w:
            w.server.zone["b.test.", "A"] = Reply(is_silent=True)
            w.watch(strict("c", "b.test"), logical("d", "b.test"))
            assert w.clusters.assignments.keys() == {"c", "d"}
            assert await w.next() == ("c", ["10.0.0.1:80", "10.0.0.2:80"])
            assert await w.next() == ("d", ["10.0.0.2:80"])

    asyncio.run(main())


def test_found_is_what_to_save(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.2", "10.0.0.1")
            w.server.zone[("b.test.", "AAAA")] = Reply(records=("2001:db8::1",))
            w.watch(strict("a", "b.test"), strict("b", "b.test", options=replace(V4, family=DnsFamily.V6_ONLY)))
            await w.next()
            await w.next()
            assert w.clusters.found() == {"b.test": ("10.0.0.1", "10.0.0.2", "2001:db8::1")}

    asyncio.run(main())


def test_failures_are_logged_once_and_asked_again_ever_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kmesh")

    async def main() -> None:
        async with world(tmp_path) as w:
            w.server.zone[("b.test.", "A")] = FAILS
            w.watch(strict("c", "b.test", options=replace(V4, refresh_rate_s=60)))
            await asyncio.sleep(0.6)
            assert 4 <= len(w.server.asked) <= 7  # after 0, 20, 60, 140, 300 and 620 ms, give or take a quarter
            assert [r.message for r in caplog.records] == ["dns_lookup_failed"]
            w.answer("b.test.", "10.0.0.1")
            await w.next()
            await w.next()
            assert [r.message for r in caplog.records[1:]] == ["dns_lookup_recovered", "dns_resolved"]

    asyncio.run(main())


def test_clusters_share_lookups(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("b.test.", "10.0.0.1")
            slow = replace(V4, refresh_rate_s=60)
            w.watch(*(strict(f"c{i}", "b.test", options=slow) for i in range(20)))
            got = {(await w.next())[0] for _ in range(20)}
            assert got == {f"c{i}" for i in range(20)}
            assert len(w.server.asked) == 1
            w.watch(*(strict(f"c{i}", "b.test", options=slow) for i in range(25)))
            assert sorted(name for name, _ in w.told) == [f"c{i}" for i in range(20, 25)]  # known: told at once
            assert len(w.server.asked) == 1

    asyncio.run(main())


def test_a_cluster_waits_for_the_first_answer_of_each_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("a.test.", "10.0.0.1")
            w.server.zone[("b.test.", "A")] = Reply(records=("10.0.0.2",), delay_s=0.2)
            w.watch(strict("both", "a.test", "b.test"), strict("one", "a.test"))
            assert await w.next() == ("one", ["10.0.0.1:80"])
            assert "both" not in w.clusters.assignments
            assert await w.next() == ("both", ["10.0.0.1:80", "10.0.0.2:80"])

    asyncio.run(main())


def test_clusters_come_change_and_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("a.test.", "10.0.0.1")
            w.answer("b.test.", "10.0.0.2")
            w.watch(strict("c", "a.test"), strict("d", "b.test"))
            assert sorted([await w.next(), await w.next()]) == [("c", ["10.0.0.1:80"]), ("d", ["10.0.0.2:80"])]

            w.watch(strict("c", "a.test", "b.test"), strict("d", "b.test"))
            assert await w.next() == ("c", ["10.0.0.1:80", "10.0.0.2:80"])

            w.watch(strict("c", "b.test"))
            assert await w.next() == ("c", ["10.0.0.2:80"])
            assert set(w.clusters.assignments) == {"c"}
            w.server.asked.clear()
            await asyncio.sleep(PAUSE_S)
            assert {name for name, _, _ in w.server.asked} == {"b.test."}

            w.watch(replace(strict("c", "b.test"), discovery=Discovery.EDS))
            assert w.clusters.assignments == {}
            await asyncio.sleep(0.05)
            w.server.asked.clear()
            await asyncio.sleep(PAUSE_S)
            assert w.server.asked == []
            assert w.told == []

    asyncio.run(main())


def test_a_removed_cluster_that_returns_is_told_of_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.answer("a.test.", "10.0.0.1")
            cluster = strict("c", "a.test")
            for _ in range(2):
                w.watch(cluster)
                assert await w.next() == ("c", ["10.0.0.1:80"])
                w.watch()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("cluster", "want"),
    [
        pytest.param(strict("c"), [], id="no endpoints"),
        pytest.param(Cluster(name="c", discovery=Discovery.STRICT_DNS), [], id="no assignment"),
        pytest.param(strict("c", "10.0.0.1"), ["10.0.0.1:80"], id="a literal as host"),
    ],
)
def test_clusters_that_need_no_dns(cluster: Cluster, want: list[str], tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.watch(cluster)
            assert await w.next() == ("c", want)
            assert w.server.asked == []

    asyncio.run(main())


def test_what_is_watched_before_it_runs_is_resolved_when_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve_dns() as server:
            server.zone[("a.test.", "A")] = Reply(records=("10.0.0.1",))
            resolver = Resolver(
                lambda sock: None,
                resolv_conf=server.write_resolv_conf(tmp_path / "resolv.conf"),
                hosts=tmp_path / "hosts",
                port=server.port,
            )
            told: asyncio.Queue[str] = asyncio.Queue()
            clusters = DnsClusters(resolver, lambda name, assignment: told.put_nowait(name))
            clusters.watch({"c": strict("c", "a.test")})
            running = asyncio.create_task(clusters.run())
            assert await asyncio.wait_for(told.get(), 5) == "c"
            running.cancel()

    asyncio.run(main())


def test_a_thousand_silent_hosts_do_not_hold_up_the_caller(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            for i in range(1000):
                w.server.zone[(f"h{i}.test.", "A")] = Reply(delay_s=60)
            loop = asyncio.get_running_loop()
            start = loop.time()
            w.watch(*(strict(f"c{i}", f"h{i}.test") for i in range(1000)))
            assert loop.time() - start < 5, "a silent host answers after 60 s"
            await asyncio.sleep(0.5)
            assert w.server.most_under_way == 128

    asyncio.run(main())
