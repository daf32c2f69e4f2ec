"""The relay's configuration on disk: what was written is what is read, or it is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmesh.compiler.ir import Routing
from kmesh.errors import ConfigError
from kmesh.model.listener import Http10, Normalization, StripPort
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost
from kmesh.relay import configuration
from kmesh.relay.configuration import ClusterOptions, Configuration, read_configuration, write_configuration

NUMBER = 2**64 - 1


def host(name: str, cluster: str = "c") -> VirtualHost:
    return VirtualHost(name=name, domains=(name,), routes=(Route(action=ClusterAction(cluster=cluster)),))


def build(*hosts: VirtualHost) -> Configuration:
    routing = Routing(
        name="r",
        config=RouteConfiguration(name="r", virtual_hosts=hosts, ignores_port=True),
        normalization=Normalization(strip_port=StripPort.ANY),
        http10=Http10(default_host="d.example"),
    )
    clusters = {"c": ClusterOptions(id=NUMBER, connect_timeout_s=0.5, is_http2_only=True)}
    return Configuration(routings={NUMBER: routing}, clusters=clusters)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.msgpack"


def test_what_is_read_is_what_was_written(path: Path) -> None:
    want = build(host("a"), host("b"))
    size = write_configuration(path, want)
    assert read_configuration(path) == want
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (size, 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_no_file_is_an_empty_configuration(path: Path) -> None:
    assert read_configuration(path) == Configuration()


def test_a_virtual_host_that_did_not_change_is_the_same_object(path: Path) -> None:
    write_configuration(path, build(host("a"), host("b")))
    before = read_configuration(path)
    write_configuration(path, build(host("a"), host("b", "d")))
    after = read_configuration(path)
    same = [
        old is new
        for old, new in zip(
            before.routings[NUMBER].config.virtual_hosts, after.routings[NUMBER].config.virtual_hosts, strict=True
        )
    ]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("at", "reason"),
    [(0, "it is no configuration"), (10, "another version"), (30, "or damaged"), (-1, "or damaged")],
)
def test_a_file_that_is_not_whole_or_not_of_this_version_is_refused(path: Path, at: int, reason: str) -> None:
    write_configuration(path, build(host("a")))
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_configuration(path)


@pytest.mark.parametrize("size", [0, 7, 39])
def test_the_beginning_of_a_file_is_refused(path: Path, size: int) -> None:
    write_configuration(path, build(host("a")))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match="only the beginning of one"):
        read_configuration(path)


def test_a_directory_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read_configuration(path)


def test_a_write_that_fails_leaves_the_file_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = build(host("a"))
    write_configuration(path, want)

    def fail(_body: bytes) -> bytes:
        raise OSError("no space")

    monkeypatch.setattr(configuration, "_digest", fail)
    with pytest.raises(OSError, match="no space"):
        write_configuration(path, build(host("b")))
    monkeypatch.undo()
    assert read_configuration(path) == want
