"""What the relay is told, and that it is told only what is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmesh.bridge.relay_configuration import RelayConfigurationWriter, build_configuration
from kmesh.bridge.state import remove_state
from kmesh.compiler import Compiler
from kmesh.compiler.routes.unit import routing_id
from kmesh.model.snapshot import Snapshot
from kmesh.records.digest import name_id
from kmesh.relay.configuration import CONFIGURATION_FILE, ClusterOptions, read_configuration
from tests.support.snapshot_text import read_snapshot

SNAPSHOT = """
listeners:
  l: {{addresses: ["10.96.0.1:80"], filter_chains: [{{network: !HttpConnectionManager {{rds_name: r}}}}]}}
route_configs:
  r:
    virtual_hosts:
      - name: v
        domains: ["*"]
        routes:
          - {{match: {{path: {{text: "{path}"}}}}, action: !ClusterAction {{cluster: a}}}}
          - {{action: !ClusterAction {{cluster: b}}}}
          - {{action: !ClusterAction {{cluster: unreachable}}}}
clusters:
  a: {{discovery: STATIC, connect_timeout_s: 0.25}}
  b: {{discovery: STATIC, upstream_http: HTTP2}}
  unreachable: {{discovery: STATIC}}
assignments:
  a: {{localities: [{{locality: {{}}, endpoints: ["10.0.0.{host}:80"]}}]}}
"""


def snapshot(path: str = "/a", host: int = 1) -> Snapshot:
    return read_snapshot(SNAPSHOT.format(path=path, host=host))


def test_routes_and_the_clusters_they_lead_to() -> None:
    compilation = Compiler().compile(snapshot())
    got = build_configuration(compilation)
    assert {number: routing.name for number, routing in got.routings.items()} == {routing_id("r"): "r"}
    assert got.clusters == {
        "a": ClusterOptions(id=name_id("cluster", "a"), connect_timeout_s=0.25),
        "b": ClusterOptions(id=name_id("cluster", "b"), is_http2_only=True),
    }


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    writer, compiler = RelayConfigurationWriter(tmp_path), Compiler()
    file = tmp_path / CONFIGURATION_FILE
    first = compiler.compile(snapshot())
    assert writer.write(first)
    assert read_configuration(file) == build_configuration(first)
    before = file.stat().st_ino
    assert not writer.write(compiler.compile(snapshot(host=2)))
    assert file.stat().st_ino == before
    other = compiler.compile(snapshot(path="/b"))
    assert writer.write(other)
    assert read_configuration(file) == build_configuration(other)


def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    writer, compilation = RelayConfigurationWriter(directory), Compiler().compile(snapshot())
    with pytest.raises(FileNotFoundError):
        writer.write(compilation)
    directory.mkdir()
    assert writer.write(compilation)


def test_it_goes_with_the_state(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    RelayConfigurationWriter(directory).write(Compiler().compile(snapshot()))
    remove_state(directory)
    assert not directory.exists()
