"""kmeshctl explain: the command line, offline from files and against a served bridge, and its exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kmesh.cli.config_snapshot import read_config_snapshot
from kmesh.cli.explain import parse_request
from kmesh.compiler.semantics import Request
from kmesh.errors import ConfigError
from tests.support.admin_server import admin_served
from tests.support.sample_bridge import SampleBridge

ROOT = Path(__file__).parents[2]
RESOURCES = ROOT / "examples" / "resources"
KEYS = ["listener", "route_config", "virtual_host", "route", "action", "path", "why", "rejected"]


def explain(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kmesh.cli.main", "explain", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_offline_as_json() -> None:
    request = ("--request", "GET http://127.96.0.60/a?q", "-H", "x-version: next")
    got = explain("--config-dir", RESOURCES, *request, "--json")
    answer = json.loads(got.stdout)
    assert (got.returncode, got.stderr, list(answer)) == (0, "", KEYS)
    assert answer["listener"] == answer["route_config"] == "web"
    assert (answer["virtual_host"], answer["route"], answer["path"]) == ("any", "next", "kernel")
    assert answer["action"] == {"kind": "cluster", "cluster": "web-v2"}
    assert answer["rejected"] == ["route old: prefix '/old': the path is '/a'"]


def test_offline_as_text() -> None:
    got = explain("--config-dir", RESOURCES, "--request", "http://127.96.0.10/")
    assert (got.returncode, got.stderr) == (0, "")
    assert got.stdout == (
        "listener      shop\n"
        "action        weighted shop-v1 80/100, shop-v2 20/100\n"
        "path          kernel\n"
        "why           decided at connect: every request of the connection goes to the same endpoint\n"
    )


def test_not_found() -> None:
    got = explain("--config-dir", RESOURCES, "--request", "http://127.96.0.99/", "--json")
    assert got.returncode == 3
    assert json.loads(got.stdout)["path"] == "direct"


def test_a_running_bridge_says_the_same(tmp_path: Path) -> None:
    request = ("--request", "http://127.96.0.20/x", "-H", "x-a: b", "--json")
    snapshot, refused = read_config_snapshot(RESOURCES)
    with admin_served(SampleBridge(held=snapshot), tmp_path / "bridge.sock"):
        got = explain("--socket", tmp_path / "bridge.sock", *request)
    want = explain("--config-dir", RESOURCES, *request)
    assert refused == ()
    assert (got.returncode, got.stdout) == (want.returncode, want.stdout) == (0, want.stdout)
    assert json.loads(got.stdout)["path"] == "kernel"


def test_resources_that_a_bridge_would_refuse_are_left_out(tmp_path: Path) -> None:
    bad: dict[str, Any] = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "bad"}
    (tmp_path / "bad.json").write_text(json.dumps({"resources": [bad]}))
    got = explain("--config-dir", tmp_path, "--request", "http://127.96.0.10/")
    assert got.returncode == 3
    assert got.stderr == "kmeshctl: left out: Listener 'bad' at address: is required\n"


@pytest.mark.parametrize(
    ("text", "headers", "method", "want"),
    [
        pytest.param(
            "http://10.0.0.1",
            [],
            None,
            ("10.0.0.1", 80, Request(target=b"/", headers=((b"Host", b"10.0.0.1"),))),
            id="address only",
        ),
        pytest.param(
            "POST http://shop:8080/a?b",
            [],
            None,
            ("shop", 8080, Request(method=b"POST", target=b"/a?b", headers=((b"Host", b"shop:8080"),))),
            id="method, port and path",
        ),
        pytest.param(
            "POST http://[::1]:81?b",
            ["host:shop", "X-A: b c "],
            "PUT",
            (
                "::1",
                81,
                Request(method=b"PUT", target=b"/?b", headers=((b"host", b"shop"), (b"X-A", b"b c"))),
            ),
            id="method, Host and headers given",
        ),
    ],
)
def test_request(text: str, headers: list[str], method: str | None, want: tuple[str, int, Request]) -> None:
    got = parse_request(text, headers, method)
    assert (got.host, got.port, got.request) == want


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        pytest.param("/a", [], id="no URL"),
        pytest.param("https://shop/", [], id="https"),
        pytest.param("http:///a", [], id="no host"),
        pytest.param("http://h:x/", [], id="port in letters"),
        pytest.param("http://h/", ["x-a"], id="header without colon"),
        pytest.param("http://h/", [": b"], id="header without name"),
    ],
)
def test_rejects(text: str, headers: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_request(text, headers, None)


def test_a_name_that_does_not_resolve() -> None:
    got = explain("--config-dir", RESOURCES, "--request", "http://shop.invalid:99999/")
    assert got.returncode == 2
    assert "put the service's address into the URL" in got.stderr
