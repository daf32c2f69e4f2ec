"""Resolving host names against a real DNS server on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import dns.rcode
import pytest
import uvloop

from kmesh.bridge.dns_sockets import PrepareSocket
from kmesh.bridge.resolver import Found, LookupFailed, Resolver
from kmesh.model.cluster import DnsFamily
from tests.support.dns import DnsServer, Reply, serve_dns

V4 = Reply(records=("10.0.0.1", "10.0.0.2"), ttl=30)
V6 = Reply(records=("2001:db8::1",), ttl=20)
NO_DATA = Reply()
FAILS = Reply(rcode=dns.rcode.SERVFAIL)
SILENT = Reply(is_silent=True)
BOTH = {("b.test.", "A"): V4, ("b.test.", "AAAA"): V6}

Zone = Mapping[tuple[str, str], Reply]


def run_against(
    tmp_path: Path,
    zone: Zone,
    body: Callable[[Resolver, DnsServer], Awaitable[None]],
    *,
    options: tuple[str, ...] = ("options timeout:1 attempts:1",),
    hosts: str = "",
    concurrency: int = 128,
    prepare_socket: PrepareSocket = lambda sock: None,
) -> None:
    async def main() -> None:
        async with serve_dns() as server, asyncio.timeout(20):
            server.zone.update(zone)
            (tmp_path / "hosts").write_text(hosts)
            resolver = Resolver(
                prepare_socket,
                resolv_conf=server.write_resolv_conf(tmp_path / "resolv.conf", *options),
                hosts=tmp_path / "hosts",
                port=server.port,
                concurrency=concurrency,
            )
            await body(resolver, server)

    asyncio.run(main())


def lookup(tmp_path: Path, zone: Zone, host: str, family: DnsFamily, **how: object) -> tuple[Found, list[str]]:
    """(answer, types asked for)."""
    got: list[Found] = []
    asked: list[str] = []

    async def body(resolver: Resolver, server: DnsServer) -> None:
        got.append(await resolver.lookup(host, family))
        asked.extend(kind for _, kind, _ in server.asked)

    run_against(tmp_path, zone, body, **how)  # type: ignore[arg-type]
    return got[0], asked


@pytest.mark.parametrize(
    ("zone", "family", "want", "asked"),
    [
        pytest.param(BOTH, DnsFamily.V4_ONLY, Found(V4.records, 30), ["A"], id="v4 only"),
        pytest.param(BOTH, DnsFamily.V6_ONLY, Found(V6.records, 20), ["AAAA"], id="v6 only"),
        pytest.param(BOTH, DnsFamily.AUTO, Found(V6.records, 20), ["AAAA"], id="auto takes v6"),
        pytest.param(
            {("b.test.", "A"): V4}, DnsFamily.AUTO, Found(V4.records, 30), ["AAAA", "A"], id="auto, no v6 name"
        ),
        pytest.param(
            {("b.test.", "A"): V4, ("b.test.", "AAAA"): NO_DATA},
            DnsFamily.AUTO,
            Found(V4.records, 30),
            ["AAAA", "A"],
            id="auto, no v6 records",
        ),
        pytest.param(
            {("b.test.", "A"): V4, ("b.test.", "AAAA"): FAILS},
            DnsFamily.AUTO,
            Found(V4.records, 30),
            ["AAAA", "A"],
            id="auto, v6 fails",
        ),
        pytest.param(BOTH, DnsFamily.V4_PREFERRED, Found(V4.records, 30), ["A"], id="v4 preferred"),
        pytest.param(
            {("b.test.", "AAAA"): V6}, DnsFamily.V4_PREFERRED, Found(V6.records, 20), ["A", "AAAA"], id="v4 missing"
        ),
        pytest.param(BOTH, DnsFamily.ALL, Found(V4.records + V6.records, 20), ["A", "AAAA"], id="all"),
        pytest.param(
            {("b.test.", "A"): FAILS, ("b.test.", "AAAA"): V6},
            DnsFamily.ALL,
            Found(V6.records, 20),
            ["A", "AAAA"],
            id="all, v4 fails",
        ),
        pytest.param({}, DnsFamily.V4_ONLY, Found((), 0), ["A"], id="no such name"),
        pytest.param({}, DnsFamily.AUTO, Found((), 0), ["AAAA", "A"], id="no such name, either family"),
        pytest.param({("b.test.", "A"): NO_DATA}, DnsFamily.V4_ONLY, Found((), 0), ["A"], id="no records"),
        pytest.param(
            {("b.test.", "A"): Reply(records=("10.0.0.1",), alias="c.test.", ttl=50, alias_ttl=7)},
            DnsFamily.V4_ONLY,
            Found(("10.0.0.1",), 7),
            ["A"],
            id="the alias has the shorter TTL",
        ),
        pytest.param(
            {("b.test.", "A"): Reply(records=("10.0.0.1",), ttl=0)},
            DnsFamily.V4_ONLY,
            Found(("10.0.0.1",), 0),
            ["A"],
            id="TTL 0",
        ),
    ],
)
def test_families(zone: Zone, family: DnsFamily, want: Found, asked: list[str], tmp_path: Path) -> None:
    got, got_asked = lookup(tmp_path, zone, "b.test", family)
    assert (got, sorted(got_asked) if family is DnsFamily.ALL else got_asked) == (want, asked)


@pytest.mark.parametrize(
    ("zone", "family"),
    [
        pytest.param({("b.test.", "A"): FAILS}, DnsFamily.V4_ONLY, id="SERVFAIL"),
        pytest.param({("b.test.", "A"): Reply(rcode=dns.rcode.REFUSED)}, DnsFamily.V4_ONLY, id="REFUSED"),
        pytest.param({("b.test.", "A"): SILENT}, DnsFamily.V4_ONLY, id="no answer"),
        pytest.param({("b.test.", "A"): Reply(is_garbage=True)}, DnsFamily.V4_ONLY, id="garbage"),
        pytest.param({("b.test.", "A"): FAILS, ("b.test.", "AAAA"): NO_DATA}, DnsFamily.AUTO, id="half an answer"),
        pytest.param({("b.test.", "A"): NO_DATA, ("b.test.", "AAAA"): FAILS}, DnsFamily.ALL, id="the other half"),
    ],
)
def test_failures(zone: Zone, family: DnsFamily, tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match=r"b\.test"):
        lookup(tmp_path, zone, "b.test", family)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", "%.test." + "y" * 250])
def test_a_name_that_dns_cannot_hold_fails(host: str, tmp_path: Path) -> None:
    with pytest.raises(LookupFailed):
        lookup(tmp_path, {}, host, DnsFamily.V4_ONLY)


def test_truncated_answer_is_asked_for_again_over_tcp(tmp_path: Path) -> None:
    many = Reply(records=tuple(f"10.0.{i // 250}.{i % 250}" for i in range(500)), is_truncated_on_udp=True)

    async def body(resolver: Resolver, server: DnsServer) -> None:
        got = await resolver.lookup("b.test", DnsFamily.V4_ONLY)
        assert sorted(got.addresses) == sorted(many.records)
        assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]

    run_against(tmp_path, {("b.test.", "A"): many}, body)


@pytest.mark.parametrize(
    ("options", "host", "want"),
    [
        pytest.param((), "b", ["b."], id="no search list"),
        pytest.param(("search ns.test test",), "b", ["b.ns.test.", "b.test."], id="search"),
        pytest.param(("search ns.test",), "b.", ["b."], id="a trailing dot is the whole name"),
        pytest.param(("search ns.test",), "b.x", ["b.x.", "b.x.ns.test."], id="one dot: as it is first"),
        pytest.param(("search test", "options ndots:2"), "b.x", ["b.x.test.", "b.x."], id="ndots"),
        pytest.param(("options use-vc",), "b.test", ["b.test./tcp"], id="use-vc"),
    ],
)
def test_resolv_conf_options(options: tuple[str, ...], host: str, want: list[str], tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        await resolver.lookup(host, DnsFamily.V4_ONLY)
        got = [name + ("" if transport == "udp" else "/tcp") for name, _, transport in server.asked]
        assert got == want

    zone = {("b.test.", "A"): V4}
    run_against(tmp_path, zone, body, options=("domain .", *options))


def test_attempts_and_timeout_bound_a_lookup(tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        start = asyncio.get_running_loop().time()
        with pytest.raises(LookupFailed):
            await resolver.lookup("b.test", DnsFamily.V4_ONLY)
        assert 1.8 < asyncio.get_running_loop().time() - start < 3
        assert len(server.asked) == 2

    run_against(tmp_path, {("b.test.", "A"): SILENT}, body, options=("options timeout:1 attempts:2",))


def test_the_next_name_server_is_asked_when_one_refuses(tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        (tmp_path / "resolv.conf").write_text(
            "nameserver not-an-address\nnameserver 127.0.0.77\nnameserver 127.0.0.1\n"
        )
        assert await resolver.lookup("b.test", DnsFamily.V4_ONLY) == Found(V4.records, 30)

    run_against(tmp_path, BOTH, body)


@pytest.mark.parametrize("content", [None, "", "# nothing\n", "nameserver\nnonsense x\noptions timeout:x ndots:\n"])
def test_without_a_name_server_the_local_machine_is_asked(content: str | None, tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        (tmp_path / "resolv.conf").unlink()
        if content is not None:
            (tmp_path / "resolv.conf").write_text(content)
        assert await resolver.lookup("b.test.", DnsFamily.V4_ONLY) == Found(V4.records, 30)

    run_against(tmp_path, BOTH, body)


def test_name_server_on_ipv6(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve_dns("::1") as server:
            server.zone.update(BOTH)
            resolv_conf = server.write_resolv_conf(tmp_path / "resolv.conf")
            resolver = Resolver(
                lambda sock: None, resolv_conf=resolv_conf, hosts=tmp_path / "hosts", port=server.port
            )
            assert await resolver.lookup("b.test", DnsFamily.V6_ONLY) == Found(V6.records, 20)

    asyncio.run(main())


HOSTS = """
127.0.0.1   localhost
10.1.1.1    backend backend.internal  # two names
10.1.1.2    BACKEND
2001:db8::2 backend
fe80::1%eth0 backend
not-an-address backend
10.1.1.3
"""


@pytest.mark.parametrize(
    ("host", "family", "want"),
    [
        pytest.param("10.9.9.9", DnsFamily.AUTO, ("10.9.9.9",), id="literal"),
        pytest.param("10.9.9.9", DnsFamily.V6_ONLY, ("10.9.9.9",), id="a literal is what it is"),
        pytest.param("2001:db8::9", DnsFamily.V4_PREFERRED, ("2001:db8::9",), id="IPv6 literal"),
        pytest.param("backend", DnsFamily.V4_ONLY, ("10.1.1.1", "10.1.1.2"), id="hosts, v4"),
        pytest.param("Backend.", DnsFamily.AUTO, ("2001:db8::2",), id="hosts, auto, any case"),
        pytest.param("backend", DnsFamily.ALL, ("10.1.1.1", "10.1.1.2", "2001:db8::2"), id="hosts, all"),
        pytest.param("backend.internal", DnsFamily.V6_ONLY, (), id="hosts, other family"),
        pytest.param("localhost", DnsFamily.ALL, ("127.0.0.1",), id="localhost as the file says"),
        pytest.param("x.localhost", DnsFamily.ALL, ("127.0.0.1", "::1"), id="below localhost"),
    ],
)
def test_what_needs_no_dns(host: str, family: DnsFamily, want: tuple[str, ...], tmp_path: Path) -> None:
    got, asked = lookup(tmp_path, {}, host, family, hosts=HOSTS)
    assert (got, asked) == (Found(want, 0), [])


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        hosts = tmp_path / "hosts"
        assert (await resolver.lookup("b.test", DnsFamily.V4_ONLY)).addresses == V4.records
        for text, want in [("10.1.1.1 b.test\n", ("10.1.1.1",)), ("10.1.1.22 b.test\n", ("10.1.1.22",))]:
            hosts.write_text(text)
            assert (await resolver.lookup("b.test", DnsFamily.V4_ONLY)).addresses == want
        hosts.unlink()
        assert (await resolver.lookup("b.test", DnsFamily.V4_ONLY)).addresses == V4.records
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:1 attempts:1\n")
        with pytest.raises(LookupFailed):
            await resolver.lookup("b.test", DnsFamily.V4_ONLY)

    run_against(tmp_path, BOTH, body)


def test_every_socket_is_prepared_before_it_is_used(tmp_path: Path) -> None:
    prepared: list[tuple[int, bool]] = []

    def prepare_socket(sock: socket.socket) -> None:
        with pytest.raises(OSError):
            sock.getpeername()
        prepared.append((sock.type, sock.getsockname()[1] == 0))

    async def body(resolver: Resolver, server: DnsServer) -> None:
        await resolver.lookup("b.test", DnsFamily.ALL)
        assert len(server.asked) == len(prepared) == 4

    truncated = {key: Reply(records=reply.records, is_truncated_on_udp=True) for key, reply in BOTH.items()}
    run_against(tmp_path, truncated, body, prepare_socket=prepare_socket)
    udp, tcp = (socket.SOCK_DGRAM, True), (socket.SOCK_STREAM, True)
    assert sorted(prepared) == [tcp, tcp, udp, udp]


def test_a_socket_that_cannot_be_prepared_is_not_used(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    def prepare_socket(sock: socket.socket) -> None:
        raise PermissionError("no map")

    async def body(resolver: Resolver, server: DnsServer) -> None:
        with pytest.raises(LookupFailed, match="no map"):
            await resolver.lookup("b.test", DnsFamily.V4_ONLY)
        assert server.asked == []

    run_against(tmp_path, BOTH, body, prepare_socket=prepare_socket)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_concurrency_is_bounded(tmp_path: Path) -> None:
    zone = {(f"h{i}.test.", "A"): Reply(records=("10.0.0.1",), delay_s=0.02) for i in range(40)}

    async def body(resolver: Resolver, server: DnsServer) -> None:
        got = await asyncio.gather(*(resolver.lookup(f"h{i}.test", DnsFamily.V4_ONLY) for i in range(40)))
        assert all(found.addresses for found in got)
        assert server.most_under_way == 5

    run_against(tmp_path, zone, body, concurrency=5)


def test_resolve_host(tmp_path: Path) -> None:
    async def body(resolver: Resolver, server: DnsServer) -> None:
        assert await resolver.resolve_host("b.test") == ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
        assert await resolver.resolve_host("::1") == ["::1"]
        with pytest.raises(OSError, match=r"nowhere\.test has no address"):
            await resolver.resolve_host("nowhere.test")
        with pytest.raises(OSError, match=r"fails\.test: "):
            await resolver.resolve_host("fails.test")

    run_against(tmp_path, BOTH | {("fails.test.", "A"): FAILS, ("fails.test.", "AAAA"): NO_DATA}, body)


def test_on_uvloop(tmp_path: Path) -> None:
    """The bridge's own loop; the server stays on asyncio, whose UDP calls it has not all."""

    async def resolve(resolver: Resolver) -> Found:
        return await resolver.lookup("b.test", DnsFamily.V4_ONLY)

    async def body(resolver: Resolver, server: DnsServer) -> None:
        got = await asyncio.to_thread(uvloop.run, resolve(resolver))
        assert got == Found(("10.0.0.1",), 60)
        assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]

    run_against(tmp_path, {("b.test.", "A"): Reply(records=("10.0.0.1",), is_truncated_on_udp=True)}, body)
