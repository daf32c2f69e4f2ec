"""Connecting: sockets, addresses, TLS, tokens, and servers that are not what they should be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from envoy.service.discovery.v3 import discovery_pb2

from kmesh.errors import ConfigError, StreamLost
from kmesh.model.address import HostAddress
from kmesh.xds.config import AdsConfig, Variant
from kmesh.xds.transport import AdsStream, open_stream
from tests.support.ads_server import TIMEOUT_S, bind_loopback, serve_ads
from tests.support.xds_kinds import CDS

LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
REQUEST = discovery_pb2.DeltaDiscoveryRequest(type_url=CDS.type_url)


def run(main: Awaitable[None], new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)


def build_config(server: HostAddress | Path, **settings: Any) -> AdsConfig:
    settings = {"connect_timeout_s": 2.0} | settings
    return AdsConfig(server=server, variant=Variant.DELTA, node_id="test", **settings)


def leave_socket(sock: socket.socket) -> None:
    """Programs of ours are not loaded in these tests."""


@asynccontextmanager
async def opened(
    config: AdsConfig, *addresses: str, prepare: Callable[[socket.socket], None] = leave_socket
) -> AsyncIterator[AdsStream]:
    async def resolve(host: str) -> Sequence[str]:
        if not addresses:
            raise OSError(f"no such host: {host}")
        return addresses

    async with asyncio.timeout(TIMEOUT_S), open_stream(config, resolve, prepare) as stream:
        yield stream


def lost(config: AdsConfig, *addresses: str, prepare: Callable[[socket.socket], None] = leave_socket) -> str:
    """Why a stream is lost before it brings anything."""

    async def main() -> None:
        async with opened(config, *addresses, prepare=prepare) as stream:
            await stream.send(REQUEST)
            await stream.receive()

    with pytest.raises(StreamLost) as raised:
        run(main())
    return str(raised.value)


async def exchange(config: AdsConfig, listen: Any, *addresses: str, tls: ssl.SSLContext | None = None) -> Any:
    """One request and one response; gives the server's call."""
    async with serve_ads(listen, tls) as server, opened(config, *addresses) as stream:
        await stream.send(REQUEST)
        call = await server.next_call()
        assert (await call.receive()).type_url == CDS.type_url
        await call.push(CDS, {"a": "1"})
        assert (await stream.receive()).nonce == "n1"
        return call


@LOOPS
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_ip_address_is_not_resolved(ip: str, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with bind_loopback(ip) as sock:
        run(exchange(build_config(HostAddress(ip, sock.getsockname()[1])), sock), new_loop)


@LOOPS
def test_unix_socket(tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    path = tmp_path / "ads.sock"
    run(exchange(build_config(path), path), new_loop)


def test_every_address_is_tried() -> None:
    with bind_loopback() as sock:
        config = build_config(HostAddress("istiod.test", sock.getsockname()[1]))
        run(exchange(config, sock, "127.0.0.2", "::1", "127.0.0.1"))


def test_every_address_that_fails_is_named() -> None:
    with bind_loopback() as sock:
        got = lost(build_config(HostAddress("istiod.test", sock.getsockname()[1])), "127.0.0.1", "::1")
    assert got.startswith("cannot connect: 127.0.0.1: ")
    assert "; ::1: " in got


def test_name_that_cannot_be_resolved() -> None:
    assert lost(build_config(HostAddress("istiod.test", 15010))) == "cannot connect: no such host: istiod.test"


def test_sockets_are_prepared_before_they_connect() -> None:
    seen = []

    def prepare(sock: socket.socket) -> None:
        with pytest.raises(OSError):
            sock.getpeername()
        seen.append(sock.family)

    with bind_loopback() as sock:
        lost(build_config(HostAddress("h", sock.getsockname()[1])), "127.0.0.1", "::1", prepare=prepare)
    assert seen == [socket.AF_INET, socket.AF_INET6]


def test_socket_that_cannot_be_prepared_is_not_connected() -> None:
    def prepare(sock: socket.socket) -> None:
        raise OSError("no such map")

    with bind_loopback() as sock:
        sock.listen()
        got = lost(build_config(HostAddress("127.0.0.1", sock.getsockname()[1])), prepare=prepare)
    assert got == "cannot connect: 127.0.0.1: no such map"


# Tokens


def test_token_is_read_for_every_connection(tmp_path: Path) -> None:
    token = tmp_path / "token"
    got = []

    async def main() -> None:
        for text in ("first\n", "second"):
            token.write_text(text)
            with bind_loopback() as sock:
                config = build_config(HostAddress("127.0.0.1", sock.getsockname()[1]), token_file=token)
                got.append((await exchange(config, sock)).metadata["authorization"])

    run(main())
    assert got == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        pytest.param(None, "cannot read the token file: [Errno 2] No such file or directory", id="missing"),
        pytest.param(b" \n", "holds no token", id="empty"),
        pytest.param(b"a\nb", "holds no token", id="two_lines"),
        pytest.param(b"\xff", "cannot read the token file: 'ascii' codec", id="binary"),
    ],
)
def test_token_that_cannot_be_used(tmp_path: Path, content: bytes | None, want: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    assert want in lost(build_config(HostAddress("127.0.0.1", 1), token_file=tmp_path / "token"))


def test_token_is_not_sent_in_plaintext_to_another_machine(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    got = lost(build_config(HostAddress("istiod.test", 15010), token_file=token), "192.0.2.1", "2001:db8::1")
    refusal = "will not send the token in plaintext: use TLS"
    assert got == f"cannot connect: 192.0.2.1: {refusal}; 2001:db8::1: {refusal}"


# TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=istiod.test"
    names = "subjectAltName=DNS:istiod.test"
    files = ["-keyout", directory / "key.pem", "-out", directory / "cert.pem"]
    subprocess.run(["openssl", *arguments.split(), "-addext", names, *files], check=True, capture_output=True)
    return directory


def server_tls(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    context.set_alpn_protocols(["h2"])
    return context


@LOOPS
@pytest.mark.parametrize("by", ["host", "server_name"])
def test_tls(pki: Path, tmp_path: Path, by: str, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    token = tmp_path / "token"
    token.write_text("secret")

    async def main() -> None:
        with bind_loopback() as sock:
            host, name = ("istiod.test", "") if by == "host" else ("127.0.0.1", "istiod.test")
            config = build_config(
                HostAddress(host, sock.getsockname()[1]),
                tls=partial(ssl.create_default_context, cafile=str(pki / "cert.pem")),
                server_name=name,
                token_file=token,
            )
            call = await exchange(config, sock, "127.0.0.1", tls=server_tls(pki))
            assert call.metadata["authorization"] == "Bearer secret"

    run(main(), new_loop)


def test_certificate_of_another_name_is_refused(pki: Path) -> None:
    async def main() -> None:
        with bind_loopback() as sock:
            config = build_config(
                HostAddress("127.0.0.1", sock.getsockname()[1]),
                tls=partial(ssl.create_default_context, cafile=str(pki / "cert.pem")),
                server_name="other.test",
            )
            await exchange(config, sock, tls=server_tls(pki))

    with pytest.raises(StreamLost, match="not valid for 'other"):
        run(main())


def test_tls_files_are_read_for_every_connection(pki: Path) -> None:
    """The authority is exchanged for the right one between two connections of one configuration."""
    contexts = [ssl.create_default_context(), ssl.create_default_context(cafile=str(pki / "cert.pem"))]

    async def main() -> None:
        with bind_loopback() as sock:
            server = HostAddress("127.0.0.1", sock.getsockname()[1])
            config = build_config(server, tls=lambda: contexts.pop(0), server_name="istiod.test")
            async with serve_ads(sock, server_tls(pki)):
                with pytest.raises(StreamLost, match="certificate verify failed"):
                    await asyncio.create_task(open_and_close(config))
                await asyncio.create_task(open_and_close(config))

    run(main())
    assert contexts == []


async def open_and_close(config: AdsConfig) -> None:
    async with opened(config) as stream:
        await stream.send(REQUEST)


def test_tls_files_that_do_not_serve() -> None:
    def build() -> ssl.SSLContext:
        raise ConfigError("cannot read --tls-key")

    assert lost(build_config(HostAddress("127.0.0.1", 1), tls=build)) == "cannot read --tls-key"


# Servers that are not what they should be


async def serve_raw(reply: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        if reply is CLOSE:
            writer.close()
        while await reader.read(65536):
            pass
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def lost_by(reply: bytes, **settings: Any) -> str:
    async def main() -> None:
        async with await serve_raw(reply) as server:
            port = server.sockets[0].getsockname()[1]
            async with opened(build_config(HostAddress("127.0.0.1", port), **settings)) as stream:
                await stream.send(REQUEST)
                await stream.receive()

    with pytest.raises(StreamLost) as raised:
        run(main())
    return str(raised.value)


SETTINGS = bytes(3) + b"\x04" + bytes(5)
CLOSE = b"close"


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "http1"])
def test_server_that_only_accepts(reply: bytes) -> None:
    assert lost_by(reply, connect_timeout_s=0.1) == "cannot connect: 127.0.0.1: timed out"


def test_server_that_closes_at_once() -> None:
    assert lost_by(CLOSE) == "cannot connect: 127.0.0.1: the server closed the connection at once"


def test_dead_peer_is_noticed() -> None:
    assert lost_by(SETTINGS, ping_interval_s=0.1, ping_timeout_s=0.1) == "Connection lost"


def test_handshake_that_never_ends() -> None:
    got = lost_by(b"", tls=ssl.create_default_context, connect_timeout_s=0.1)
    assert got == "cannot connect: 127.0.0.1: timed out"


def test_server_that_takes_no_requests() -> None:
    async def main() -> None:
        with bind_loopback() as sock:
            config = build_config(HostAddress("127.0.0.1", sock.getsockname()[1]), send_timeout_s=0.2)
            async with serve_ads(sock), opened(config) as stream:
                names = [f"cluster-{i:08}" for i in range(1_000_000)]
                sending = asyncio.create_task(
                    stream.send(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=names))
                )
                await asyncio.wait({sending})
                with pytest.raises(StreamLost, match="timed out"):
                    sending.result()
                await stream.receive()

    with pytest.raises(StreamLost, match="cannot send: timed out"):
        run(main())


@pytest.mark.parametrize(
    ("body", "want"),
    [pytest.param(b"\xff\xff", "Error parsing message", id="undecodable")],
)
def test_message_that_is_none(body: bytes, want: str) -> None:
    class Raw:
        def SerializeToString(self) -> bytes:
            return body

    async def main() -> None:
        with bind_loopback() as sock:
            config = build_config(HostAddress("127.0.0.1", sock.getsockname()[1]))
            async with serve_ads(sock) as server, opened(config) as stream:
                await stream.send(REQUEST)
                call = await server.next_call()
                call._stream._send_type = Raw
                await call.send(Raw())
                await stream.receive()

    with pytest.raises(StreamLost, match=want):
        run(main())
