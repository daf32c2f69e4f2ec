"""TLS contexts, proved by handshakes with a real server; certificates come from the openssl command."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from kmesh.bridge.settings import Settings, load_settings
from kmesh.bridge.tls import build_ssl_context
from kmesh.errors import ConfigError
from tests.support.pki import make_pair, openssl


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    for name in ("istiod.test", "node.test"):
        make_pair(directory, name)
    encrypted = directory / "encrypted-key.pem"
    openssl("ec", "-in", directory / "node.test-key.pem", "-aes256", "-passout", "pass:x", "-out", encrypted)
    (directory / "garbage.pem").write_text("not a certificate\n")
    return directory


def settings(tmp_path: Path, *argv: str | Path) -> Settings:
    mounts = tmp_path / "mounts"
    mounts.write_text("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    return load_settings(["--xds-server", "istiod.test:15012", *map(str, argv)], {}, mounts)


async def handshake(client: ssl.SSLContext, name: str, pki: Path) -> tuple[str | None, object]:
    """What a server that asks for node.test's certificate sees: (ALPN protocol, the client's subject)."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "node.test.pem"))
    server_context.load_cert_chain(pki / "istiod.test.pem", pki / "istiod.test-key.pem")
    server_context.set_alpn_protocols(["h2"])
    server_context.verify_mode = ssl.CERT_OPTIONAL
    seen: asyncio.Future[tuple[str | None, object]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        seen.set_result((tls.selected_alpn_protocol(), (tls.getpeercert() or {}).get("subject")))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        got = await asyncio.wait_for(seen, 5)
        writer.close()
        return got


def test_handshake(pki: Path, tmp_path: Path) -> None:
    context = build_ssl_context(settings(tmp_path, "--tls-ca", pki / "istiod.test.pem"))
    assert asyncio.run(handshake(context, "istiod.test", pki)) == ("h2", None)


def test_mutual_handshake(pki: Path, tmp_path: Path) -> None:
    pair = ("--tls-cert", pki / "node.test.pem", "--tls-key", pki / "node.test-key.pem")
    context = build_ssl_context(settings(tmp_path, "--tls-ca", pki / "istiod.test.pem", *pair))
    assert asyncio.run(handshake(context, "istiod.test", pki)) == ("h2", ((("commonName", "node.test"),),))


@pytest.mark.parametrize(
    ("ca", "name"),
    [
        pytest.param(("--tls-ca", "node.test.pem"), "istiod.test", id="another authority"),
        pytest.param(("--tls",), "istiod.test", id="system authorities"),
        pytest.param(("--tls-ca", "istiod.test.pem"), "other.test", id="another name"),
    ],
)
def test_an_untrusted_server_is_refused(ca: tuple[str, ...], name: str, pki: Path, tmp_path: Path) -> None:
    context = build_ssl_context(settings(tmp_path, ca[0], *(pki / file for file in ca[1:])))
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(context, name, pki))


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        (("--tls-ca", "nowhere"), "cannot read --tls-ca PKI/nowhere (No such file or directory): "),
        (("--tls-ca", "."), "cannot read --tls-ca PKI (Is a directory): "),
        (("--tls-ca", "garbage.pem"), "--tls-ca PKI/garbage.pem holds no certificate: "),
        (("--tls-cert", "node.test.pem", "--tls-key", "nowhere"), "cannot read --tls-key PKI/nowhere ("),
        (
            ("--tls-cert", "node.test.pem", "--tls-key", "istiod.test-key.pem"),
            "--tls-key PKI/istiod.test-key.pem is not the key of --tls-cert PKI/node.test.pem: give one pair",
        ),
        (
            ("--tls-cert", "garbage.pem", "--tls-key", "node.test-key.pem"),
            "--tls-cert PKI/garbage.pem and --tls-key PKI/node.test-key.pem cannot be loaded (",
        ),
        (
            ("--tls-cert", "node.test.pem", "--tls-key", "encrypted-key.pem"),
            "--tls-cert PKI/node.test.pem and --tls-key PKI/encrypted-key.pem cannot be loaded (",
        ),
    ],
)
def test_mistakes(argv: tuple[str, ...], want: str, pki: Path, tmp_path: Path) -> None:
    argv = tuple(arg if arg.startswith("--") else str(pki / arg) for arg in argv)
    with pytest.raises(ConfigError) as e:
        build_ssl_context(settings(tmp_path, *argv))
    assert str(e.value).replace(str(pki), "PKI").startswith(want)
