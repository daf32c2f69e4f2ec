"""kmesh.xds.server.config_dir: reading, refusing, and noticing changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from kmesh.errors import ConfigError
from kmesh.xds.server import config_dir
from kmesh.xds.server.catalog import CDS, LDS, Catalog
from kmesh.xds.server.config_dir import ConfigDir, follow

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def write_clusters(path: Path, *names: str) -> None:
    """In one step, as an atomic rename."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps({"resources": [{"@type": CLUSTER, "name": name} for name in names]}))
    new.replace(path)


def one_cluster(**fields: object) -> str:
    return json.dumps({"resources": [{"@type": CLUSTER, **fields}]})


def test_every_file_is_read_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    write_clusters(tmp_path / "b.json", "b")
    (tmp_path / "a.yaml").write_text(f'version_info: "1"\nresources:\n- "@type": {CLUSTER}\n  name: a\n')
    (tmp_path / "c.yml").write_text(f'resources:\n- {{"@type": {CLUSTER}, name: c, connect_timeout: 5s}}\n')
    (tmp_path / ".hidden.yaml").write_text("broken: [")
    (tmp_path / "README.md").write_text("broken: [")
    (tmp_path / "below").mkdir()
    write_clusters(tmp_path / "below" / "d.json", "d")
    catalog = ConfigDir(tmp_path).read()
    assert list(catalog[CDS].by_name) == ["a", "b", "c"]


def test_messages_inside_any_are_found_by_their_type(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text(
        """
resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: web
  address: {socket_address: {address: 127.0.0.1, port_value: 80}}
  filter_chains:
  - filters:
    - name: hcm
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: web
        rds: {route_config_name: web, config_source: {ads: {}}}
        http_filters:
        - name: router
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"""
    )
    catalog = ConfigDir(tmp_path).read()
    assert b"http.router.v3.Router" in catalog[LDS].by_name["web"].packed.value


def test_a_cluster_without_endpoints_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.json").write_text(
        one_cluster(name="x", type="EDS", eds_cluster_config={"eds_config": {"ads": {}}})
    )
    assert list(ConfigDir(tmp_path).read()[CDS].by_name) == ["x"]
    assert [r.getMessage() for r in caplog.records if "ClusterLoadAssignment 'x'" in r.getMessage()]


ERRORS = {
    "no list": ("a.yaml", "clusters: []", 'a.yaml has no list named "resources"'),
    "empty file": ("a.yaml", "", 'a.yaml has no list named "resources"'),
    "not a list": ("a.json", '{"resources": {}}', 'a.json has no list named "resources"'),
    "another key": ("a.json", '{"resources": [], "resorces": []}', "a.json has 'resorces' beside"),
    "bad yaml": ("a.yaml", "resources: [", "a.yaml is not valid YAML: line"),
    "bad json": ("a.json", '{"resources": [}', "a.json is not valid JSON: Expecting value: line 1"),
    "not utf-8": ("a.json", b"\xff", "a.json is not valid JSON: 'utf-8' codec"),
    "no type": ("a.json", '{"resources": [{"name": "a"}]}', 'a.json: resources[0] has no "@type"'),
    "not a mapping": ("a.json", '{"resources": ["a"]}', 'a.json: resources[0] has no "@type"'),
    "unknown type": (
        "a.json",
        '{"resources": [{"@type": "type.googleapis.com/envoy.Nothing", "name": "x"}]}',
        "a.json: resources[0] 'x': \"@type\" 'type.googleapis.com/envoy.Nothing' is not a known message type",
    ),
    "unknown inner type": (
        "a.json",
        one_cluster(name="x", cluster_type={"typed_config": {"@type": "a/b.C"}}),
        "a.json: resources[0] 'x': Can not find message descriptor by type_url: a/b.C at Cluster.cluster_type.",
    ),
    "unknown field": (
        "a.json",
        one_cluster(name="x", eds_cluster_config={"ads": {}}),
        'has no field named "ads" at "Cluster.eds_cluster_config"',
    ),
    "wrong value": ("a.json", one_cluster(name="x", connect_timeout="5 seconds"), "a.json: resources[0] 'x': "),
    "wrong shape": ("a.json", one_cluster(name="x", load_assignment=["a"]), "a.json: resources[0] 'x': "),
    "name is no text": ("a.json", one_cluster(name=5), "a.json: resources[0]: "),
    "no name": ("a.json", one_cluster(), "a.json: resources[0]: Cluster has no name"),
    "a directory": ("a.yaml", None, "a.yaml: Is a directory"),
}


@pytest.mark.parametrize(("name", "content", "want"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line_and_say_where(tmp_path: Path, name: str, content: str | bytes | None, want: str) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        ConfigDir(tmp_path).read()
    got = str(caught.value)
    assert want in got
    assert "\n" not in got


def test_one_name_twice_in_a_file_is_an_error(tmp_path: Path) -> None:
    write_clusters(tmp_path / "a.json", "x", "x")
    with pytest.raises(ConfigError, match=r"a\.json: Cluster 'x' is already given in .*a\.json"):
        ConfigDir(tmp_path).read()


def test_one_name_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    write_clusters(tmp_path / "a.json", "x")
    write_clusters(tmp_path / "b.json", "x")
    with pytest.raises(ConfigError, match=r"b\.json: Cluster 'x' is already given in .*a\.json"):
        ConfigDir(tmp_path).read()


def test_a_directory_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no \.yaml, \.yml or \.json file"):
        ConfigDir(tmp_path).read()
    with pytest.raises(ConfigError, match="No such file or directory"):
        ConfigDir(tmp_path / "none").read()


def rename(path: Path) -> None:
    write_clusters(path / "a.json", "changed")


def overwrite(path: Path) -> None:
    (path / "a.json").write_text((path / "a.json").read_text().replace("first", "other"))


def add(path: Path) -> None:
    write_clusters(path / "b.json", "more")


def remove(path: Path) -> None:
    (path / "z.json").unlink()


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "renamed over": (rename, {"changed", "last"}),
    "overwritten, same size": (overwrite, {"other", "last"}),
    "file added": (add, {"first", "more", "last"}),
    "file removed": (remove, {"first"}),
}


@pytest.mark.parametrize(("change", "want"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_once(tmp_path: Path, change: Callable[[Path], None], want: set[str]) -> None:
    write_clusters(tmp_path / "a.json", "first")
    write_clusters(tmp_path / "z.json", "last")
    directory = ConfigDir(tmp_path)
    directory.read()
    assert directory.read_if_changed() is None
    change(tmp_path)
    got = directory.read_if_changed()
    assert got is not None and set(got[CDS].by_name) == want
    assert directory.read_if_changed() is None


def test_a_switched_link_is_noticed_as_kubernetes_updates_a_config_map(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        write_clusters(tmp_path / f"..{version}" / "a.json", f"v{version}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.json").symlink_to("..data/a.json")
    directory = ConfigDir(tmp_path)
    assert list(directory.read()[CDS].by_name) == ["v1"]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    changed = directory.read_if_changed()
    assert changed is not None and list(changed[CDS].by_name) == ["v2"]


def test_a_file_caught_while_it_is_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clusters(tmp_path / "a.json", "x")
    whole = (tmp_path / "a.json").read_bytes()
    (tmp_path / "a.json").write_bytes(whole[:20])
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            (tmp_path / "a.json").write_bytes(whole)

    monkeypatch.setattr(config_dir.time, "sleep", sleep)
    assert list(ConfigDir(tmp_path).read()[CDS].by_name) == ["x"]
    assert len(naps) == 2


def test_only_changed_files_are_parsed_again(tmp_path: Path) -> None:
    write_clusters(tmp_path / "a.json", "a")
    write_clusters(tmp_path / "b.json", "b")
    directory = ConfigDir(tmp_path)
    before = directory.read()[CDS].by_name
    write_clusters(tmp_path / "b.json", "b2")
    changed = directory.read_if_changed()
    assert changed is not None and changed[CDS].by_name["a"] is before["a"]


def test_following_keeps_the_last_good_state_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config_dir, "POLL_S", 0.01)
    monkeypatch.setattr(config_dir, "SETTLE_S", 0.01)
    caplog.set_level(logging.ERROR)
    write_clusters(tmp_path / "a.json", "a")
    directory = ConfigDir(tmp_path)
    directory.read()
    published: list[set[str]] = []

    async def scenario() -> None:
        is_published = asyncio.Event()

        def publish(catalog: Catalog) -> None:
            published.append(set(catalog[CDS].by_name))
            is_published.set()

        follower = asyncio.create_task(follow(directory, publish))
        (tmp_path / "b.json").write_text("broken")
        await asyncio.sleep(0.2)
        assert published == []
        (tmp_path / "b.json").unlink()
        moved = await asyncio.to_thread(tmp_path.rename, tmp_path.with_name(tmp_path.name + "-moved"))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(moved.rename, tmp_path)
        write_clusters(tmp_path / "b.json", "b")
        await asyncio.wait_for(is_published.wait(), 5)
        follower.cancel()

    asyncio.run(scenario())
    assert published == [{"a", "b"}]
    assert len([r for r in caplog.records if "b.json is not valid JSON" in r.getMessage()]) == 1
    assert len([r for r in caplog.records if "No such file or directory" in r.getMessage()]) == 1
