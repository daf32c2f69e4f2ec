"""The commands as a user types them: settings from every source, what they print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmesh.bridge.settings import OPTIONS
from kmesh.kernel.hooks import HOOKS, PROGRAMS
from kmesh.maps.image import MapName
from tests.support.bridge import KMESHCTL, Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane, write_resources
from tests.support.envoy import wait_until
from tests.support.name_server import Address
from tests.support.sandbox import BPFFS, Sandbox
from tests.support.services import tcp_service

VIP = ("127.96.0.1", 80)
BRIDGE = (sys.executable, "-m", "kmesh.bridge")
AS_NOBODY = """
import importlib, os, sys
module = importlib.import_module(sys.argv[1])  # while the interpreter's files may be read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
del sys.argv[1]
sys.exit(module.main())
"""

Servers = dict[str, Address]


@pytest.fixture(scope="module")
def bridge(sandbox: Sandbox, control_plane: ControlPlane, servers: Servers) -> Iterator[Bridge]:
    marker = control_plane.publish(*tcp_service("shop", VIP, servers["a"], servers["b"]))
    with Bridge(sandbox, "--xds-server", control_plane.address, "--node-cluster", "tests") as bridge:
        bridge.wait_until_serves(marker)
        yield bridge


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("KMESH_")} | environ
    return subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip


def run_as_nobody(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What `python -m` does with a module that has a main(), without root."""
    return run(sys.executable, "-c", AS_NOBODY, module, *arguments)


# python -m kmesh.bridge


def test_help_names_every_option_and_variable() -> None:
    got = run(*BRIDGE, "--help")
    assert (got.returncode, got.stderr) == (0, "")
    for field, option in OPTIONS.items():
        assert f"--{field.replace('_', '-')}" in got.stdout
        if field not in ("uninstall", "version"):
            assert f"[KMESH_{field.upper()}]" in got.stdout
        assert option.help.split()[0] in got.stdout


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ([], "--xds-server and --config-dir are both missing: give exactly one of them"),
        (["--xds-server", "h:1", "--cgroup", "/nowhere"], "--cgroup /nowhere is not a cgroup v2 directory"),
        (["--xds-server", "h:1", "--tls-ca", "/nowhere"], "cannot read --tls-ca /nowhere (No such file"),
        (["--xds-sever", "h:1"], "there is no option --xds-sever: did you mean --xds-server?"),
        (["--config-dir", "/nowhere"], "--config-dir: /nowhere is not a directory: create it"),
    ],
    ids=["no source", "no such cgroup", "no such file", "misspelt", "no such directory"],
)
def test_wrong_settings_are_one_sentence_and_exit_2(arguments: list[str], want: str, sandbox: Sandbox) -> None:
    places = ["--instance", f"{sandbox.instance}-x", "--state-dir", sandbox.folder / "x"]
    places += ["--api-socket", sandbox.folder / "x.sock"]
    got = run(*BRIDGE, *places, *arguments)
    assert (got.returncode, got.stdout) == (2, "")
    (sentence,) = [line for line in got.stderr.splitlines() if line.startswith("kmesh.bridge: ")]
    assert sentence.startswith(f"kmesh.bridge: {want}")
    assert "Traceback" not in got.stderr


def test_an_empty_config_dir_ends_the_start_before_anything_is_loaded(tmp_path: Path, sandbox: Sandbox) -> None:
    instance = f"{sandbox.instance}-x"
    places = ["--instance", instance, "--cgroup", sandbox.pods]
    places += ["--state-dir", tmp_path / "state", "--api-socket", tmp_path / "api.sock"]
    (tmp_path / "empty").mkdir()
    got = run(*BRIDGE, *places, "--config-dir", tmp_path / "empty")
    assert got.returncode == 2
    assert "has no .yaml, .yml or .json file" in got.stderr
    assert "Traceback" not in got.stderr
    assert not (BPFFS / "kmesh" / instance).exists()


@pytest.mark.parametrize("argument", ["--uninstall", "--xds-server=127.0.0.1:1"])
def test_without_root(argument: str) -> None:
    """With nothing but the defaults, which name places that only root may write to."""
    got = run_as_nobody("kmesh.bridge.__main__", argument)
    assert (got.returncode, got.stdout) == (1, "")
    assert got.stderr == "kmesh.bridge: kmesh changes what the kernel runs and must run as root: start it with sudo\n"


def test_settings_from_file_environment_and_command_line(
    sandbox: Sandbox, bridge: Bridge, servers: Servers, tmp_path: Path
) -> None:
    """Each source gives something, and the command line has the last word."""
    bridge.stop()
    (tmp_path / "resources").mkdir()
    write_resources(tmp_path / "resources", *tcp_service("shop", VIP, servers["c"]))
    settings = {
        "config-dir": str(tmp_path / "resources"),
        "cgroup": [str(sandbox.pods)],
        "xds-variant": "delta",
        "log-format": "json",
        "instance": "not-this-one",
    }
    (tmp_path / "bridge.yaml").write_text(json.dumps(settings))
    environ = {
        "KMESH_CONFIG": str(tmp_path / "bridge.yaml"),
        "KMESH_XDS_VARIANT": "sotw",
        "KMESH_INSTANCE": sandbox.instance,
        "KMESH_STATE_DIR": str(tmp_path / "state"),
        "KMESH_API_SOCKET": str(tmp_path / "api.sock"),
        "KMESH_LOG_LEVEL": "debug",
    }
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = sandbox.spawn([*BRIDGE, "--log-level", "info"], env=environ, stderr=stderr)
    try:
        wait_until(lambda: "image_applied" in log.read_text(), 10, "its configuration")
        with Client(sandbox) as client:
            assert client.answers(VIP) == ["c"]
        status = json.loads(run(*KMESHCTL, "status", "--json", KMESH_API_SOCKET=environ["KMESH_API_SOCKET"]).stdout)
        assert (status["xds"]["variant"], status["bridge"]["instance"]) == ("sotw", sandbox.instance)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "event", "logger"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines} == {"info"}
    assert lines[-1]["event"] == "bridge_stopped"
    bridge.start()


def test_log_as_text(sandbox: Sandbox, bridge: Bridge) -> None:
    bridge.stop()
    with Bridge(sandbox, *bridge.options, "--log-format", "text") as other:
        first = other.log.read_text().splitlines()[0]
    assert " info    programs_ready adopted=true " in first
    bridge.start()


# kmeshctl


def test_status_has_what_an_operator_asks_for(bridge: Bridge, client: Client) -> None:
    client.tally(VIP, 4)
    got = bridge.kmeshctl("status", "--json")
    status = json.loads(got.stdout)
    assert (got.returncode, status["problems"]) == (0, [])
    assert {row["effect"] for row in status["limitations"]} == {"unenforced"}
    assert "cluster shop" in status["limitations"][0]["resources"]
    types = {row["name"]: row for row in status["xds"]["types"]}
    assert set(types) == {"LDS", "RDS", "CDS", "EDS"}
    assert all(row["version"] and row["nonce"] and not row["last_nack"] for row in types.values())
    assert types["EDS"]["resources"] == 1
    assert status["snapshot"]["endpoints"] == 2
    programs = {row["name"]: row for row in status["programs"]}
    assert programs.keys() == PROGRAMS.keys()
    assert all(programs[name]["cgroups"] == [str(bridge.sandbox.pods)] for name in HOOKS)
    assert programs["km_msg"]["runs_by"] == "km_clients"
    assert {row["name"] for row in status["maps"]} == {name.value for name in MapName}
    assert all(0 <= row["used"] <= row["max_entries"] and row["bytes"] for row in status["maps"])
    assert len(status["apply"]["image_digest"]) == 32
    assert next(row["count"] for row in status["outcomes"] if row["reason"] == "balanced") >= 4
    text = bridge.kmeshctl("status").stdout
    assert text.startswith("ok\n")
    assert all(word in text for word in (status["apply"]["image_digest"], "km_connect4", "balanced", "LDS"))


@pytest.mark.parametrize("kind", ["xds", "model", "ir", "image", "maps"])
def test_dumps(bridge: Bridge, servers: Servers, kind: str) -> None:
    """Each stage shows the service, for people and for programs."""
    text, plain = bridge.kmeshctl("dump", kind), bridge.kmeshctl("dump", kind, "--json")
    assert (text.returncode, plain.returncode) == (0, 0)
    elements = json.loads(plain.stdout)
    assert elements
    for shown in (text.stdout, plain.stdout):
        assert "127.96.0.1" in shown
        assert "127.0.0.2" in shown and str(servers["a"][1]) in shown


def test_image_and_maps_are_the_same(bridge: Bridge) -> None:
    """But for the cursors, which count on."""
    image, maps = (
        [line for line in bridge.kmeshctl("dump", kind).stdout.splitlines() if "km_cursor" not in line]
        for kind in ("image", "maps")
    )
    assert sorted(image) == sorted(maps)


def test_version(bridge: Bridge) -> None:
    got = bridge.kmeshctl("version")
    assert got.returncode == 0
    assert f"process {bridge.process.pid}" in got.stdout
    assert run(*BRIDGE, "--version").stdout.startswith("kmesh ")


def test_socket_is_for_its_owner_only(bridge: Bridge) -> None:
    assert bridge.socket.stat().st_mode & 0o777 == 0o600
    assert bridge.state_dir.stat().st_mode & 0o777 == 0o700
    got = run_as_nobody("kmesh.cli.main", "status", "--socket", bridge.socket)
    assert got.returncode == 2
    assert "Traceback" not in got.stderr


# Uninstall


def test_uninstall_while_it_runs_is_refused(bridge: Bridge, client: Client) -> None:
    for got in (run(*BRIDGE, *bridge.options, "--uninstall"), bridge.kmeshctl("uninstall", "--yes")):
        assert got.returncode == 2
        assert str(bridge.process.pid) in got.stderr
    assert set(client.answers(VIP, 2)) == {"a", "b"}


def test_uninstall_removes_this_instance_and_no_other(
    bridge: Bridge, control_plane: ControlPlane, client: Client
) -> None:
    """Two bridges of one control plane; one is stopped and uninstalled."""
    with Sandbox() as sandbox, Client(sandbox) as neighbour:
        with Bridge(sandbox, "--xds-server", control_plane.address) as other:
            assert set(neighbour.answers(VIP, 2)) == {"a", "b"}
        assert set(neighbour.answers(VIP, 2)) == {"a", "b"}, "stopped, and still served"
        got = run(*BRIDGE, *other.options, "--uninstall")
        assert got.returncode == 0
        assert not other.state_dir.exists()
        assert other.kmeshctl("uninstall", "--yes").stdout == f"instance {sandbox.instance} has left nothing\n"
        removed = [line.removeprefix("removed ") for line in got.stdout.splitlines()]
        assert removed and all(sandbox.instance in path for path in removed)
        assert not (BPFFS / "kmesh" / sandbox.instance).exists()
        assert neighbour.answers(VIP) == ["ECONNREFUSED"]
    assert set(client.answers(VIP, 2)) == {"a", "b"}
    assert bridge.status()["problems"] == []
