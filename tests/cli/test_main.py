"""kmeshctl as a process, against a real server on a real socket."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kmesh import __version__
from kmesh.kernel.paths import InstancePaths
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import SocketAddress
from tests.support.admin_server import admin_served
from tests.support.records import backend
from tests.support.sample_bridge import SampleBridge, degraded_status, healthy_status

ROOT = Path(__file__).parents[2]
KMESHCTL = (sys.executable, "-m", "kmesh.cli.main")
RECORDS = 100_000


def kmeshctl(*args: object, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("KMESH_")} | environ
    command = [*KMESHCTL, *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "healthy.sock"
    with admin_served(SampleBridge(answer=healthy_status(datetime.now(UTC))), path):
        yield path


@pytest.fixture
def degraded(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "degraded.sock"
    with admin_served(SampleBridge(answer=degraded_status(datetime.now(UTC))), path):
        yield path


def test_status_of_a_healthy_bridge(healthy: Path) -> None:
    got = kmeshctl("status", "--socket", healthy)
    assert (got.returncode, got.stderr) == (0, "")
    assert got.stdout.startswith("ok\n\ninstance  default, kmesh 0.1.0, process 4711, started 3h12m ago")


def test_status_of_a_degraded_bridge(degraded: Path) -> None:
    got = kmeshctl("status", "--socket", degraded)
    assert (got.returncode, got.stderr) == (1, "")
    assert got.stdout.startswith("degraded: km_getpeername4 is not attached to /sys/fs/cgroup/kubepods.slice\n")


def test_status_as_json(degraded: Path) -> None:
    got = kmeshctl("status", "--json", "--socket", degraded)
    status = json.loads(got.stdout)
    assert got.returncode == 1
    assert len(status["problems"]) == 9
    assert status["xds"]["state"] == "backing_off"
    assert status["xds"]["connected_since"] is None
    assert datetime.fromisoformat(status["bridge"]["started_at"]) < datetime.now(UTC)
    assert status["maps"][0] == {"name": "km_backend", "used": 12040, "max_entries": 16384, "bytes": 1573000}
    assert len(status["limitations"][0]["resources"]) == 18
    assert status["limitations"][0]["effect"] == "refused"


def test_status_is_coloured_on_a_terminal_only(healthy: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*KMESHCTL, "status", "--socket", str(healthy)]
    subprocess.run(command, cwd=ROOT, stdout=theirs, env=os.environ | {"NO_COLOR": ""}, timeout=30, check=True)
    got = os.read(ours, 4096)
    os.close(ours)
    os.close(theirs)
    assert got.startswith(b"\x1b[1;32mok")


def test_version_with_a_bridge(healthy: Path) -> None:
    got = kmeshctl("version", "--socket", healthy)
    assert got.returncode == 0
    assert got.stdout.splitlines()[0].startswith(f"kmeshctl {__version__}, Python 3")
    assert got.stdout.splitlines()[1:] == [
        "bridge   0.1.0, Python 3.11.2, Linux 6.1.0-18-amd64",
        "         instance default, process 4711",
    ]


def test_version_without_a_bridge(tmp_path: Path) -> None:
    got = kmeshctl("version", "--socket", tmp_path / "none.sock")
    assert got.returncode == 0
    assert "bridge   no bridge answers at" in got.stdout
    got = kmeshctl("version", "--json", "--socket", tmp_path / "none.sock")
    assert json.loads(got.stdout)["bridge"] is None


@pytest.mark.parametrize("has_stale_socket", [False, True], ids=["nothing there", "stale socket"])
def test_no_bridge_is_one_sentence_with_the_remedy(tmp_path: Path, has_stale_socket: bool) -> None:
    path = tmp_path / "none.sock"
    if has_stale_socket:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    got = kmeshctl("status", "--socket", path)
    assert (got.returncode, got.stdout) == (2, "")
    assert got.stderr == (
        f"kmeshctl: no bridge answers at {path}: start one with 'python -m kmesh.bridge', "
        "or choose another with --instance or --socket\n"
    )


@pytest.mark.parametrize(
    "args, environ, want",
    [
        pytest.param(("--instance", "no-such"), {}, "/run/kmesh/no-such.sock", id="option"),
        pytest.param((), {"KMESH_INSTANCE": "from-env"}, "/run/kmesh/from-env.sock", id="environment"),
        pytest.param(
            ("--instance", "no-such"), {"KMESH_INSTANCE": "from-env"}, "/run/kmesh/no-such.sock", id="option first"
        ),
        pytest.param((), {"KMESH_API_SOCKET": "/nowhere/a.sock"}, "/nowhere/a.sock", id="socket from environment"),
    ],
)
def test_which_bridge_is_meant(args: tuple[str, ...], environ: dict[str, str], want: str) -> None:
    assert f"no bridge answers at {want}:" in kmeshctl("status", *args, **environ).stderr


def test_dump_as_text_and_json(healthy: Path) -> None:
    text = kmeshctl("dump", "model", "--name", "reviews-v1", "--socket", healthy)
    assert text.returncode == 0
    assert text.stdout.startswith("cluster reviews-v1\n  name: reviews-v1\n  discovery: EDS\n")
    document = kmeshctl("dump", "model", "--type", "LISTENER", "--json", "--socket", healthy)
    assert [item["name"] for item in json.loads(document.stdout)] == ["default/reviews"]


@pytest.mark.parametrize(
    "args, want",
    [
        pytest.param(
            ("dump", "maps", "--type", "x"), "has no type 'x': choose one of km_frontend", id="unknown type"
        ),
        pytest.param(("dump", "everything"), "invalid choice: 'everything'", id="unknown dump"),
        pytest.param(("status", "--instance", "../x"), "cannot name an instance", id="bad instance"),
        pytest.param((), "required: COMMAND", id="no command"),
    ],
)
def test_usage_errors(healthy: Path, args: tuple[str, ...], want: str) -> None:
    got = kmeshctl(*args, KMESH_API_SOCKET=str(healthy))
    assert (got.returncode, got.stdout) == (2, "")
    assert want in got.stderr


@pytest.mark.parametrize("command", ["", "status", "dump", "version", "uninstall"])
def test_help_of_each_command(command: str) -> None:
    got = kmeshctl(*command.split(), "--help")
    assert (got.returncode, got.stderr) == (0, "")
    assert "examples:" in got.stdout or command == "version"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bridge of 100,000 records."""
    path = tmp_path_factory.mktemp("large") / "a.sock"
    addresses = (SocketAddress(number.to_bytes(16, "big"), 80) for number in range(RECORDS))
    records = tuple(backend(address)[1] for address in addresses)
    with admin_served(SampleBridge(should=MapImage({("cluster", "c"): Fragment.of(records)})), path):
        yield path


def test_a_large_dump_takes_little_memory(large: Path) -> None:
    """No more than the interpreter and the gRPC library do, which a small command shows."""
    lines, peak_kib = run_counting("dump", "image", "--socket", str(large))
    _, floor_kib = run_counting("dump", "ir", "--socket", str(large))
    assert lines == RECORDS
    assert peak_kib < floor_kib + 4096


def run_counting(*args: str) -> tuple[int, int]:
    """Lines printed, and the most memory resident, in KiB."""
    with subprocess.Popen([*KMESHCTL, *args], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        lines = sum(1 for _ in process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return lines, usage.ru_maxrss


def test_a_reader_that_leaves_is_no_error(large: Path) -> None:
    command = [*KMESHCTL, "dump", "image", "--socket", str(large)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (141, b"")


def test_uninstall_wants_an_answer(tmp_path: Path) -> None:
    got = kmeshctl("uninstall", "--socket", tmp_path / "none.sock", "--bpffs", tmp_path)
    assert (got.returncode, got.stdout) == (2, "")
    assert "add --yes" in got.stderr


def test_uninstall_of_a_running_bridge_is_refused(healthy: Path, tmp_path: Path) -> None:
    got = kmeshctl("uninstall", "--yes", "--socket", healthy, "--bpffs", tmp_path)
    assert (got.returncode, got.stdout) == (2, "")
    assert "still runs as process 4711: stop it" in got.stderr


def test_uninstall_of_nothing(tmp_path: Path) -> None:
    got = kmeshctl("uninstall", "--yes", "--instance", "never-was", "--bpffs", tmp_path)
    assert (got.returncode, got.stdout, got.stderr) == (0, "instance never-was has left nothing\n", "")


def test_uninstall_removes_the_instance_and_only_that(tmp_path: Path) -> None:
    """Any file system shows which paths go; tests/kernel shows that what was pinned there is detached."""
    edge, other = (InstancePaths(bpffs=tmp_path, instance=name).root for name in ("edge", "other"))
    for root in (edge, other):
        (root / "links").mkdir(parents=True)
        (root / "links" / "connect4").touch()
    got = kmeshctl("uninstall", "--yes", "--instance", "edge", "--bpffs", tmp_path)
    assert (got.returncode, got.stderr) == (0, "")
    assert f"removed {edge}/links/connect4\n" in got.stdout
    assert not edge.exists()
    assert (other / "links" / "connect4").exists()


def test_uninstall_says_what_it_cannot_remove(tmp_path: Path) -> None:
    root = InstancePaths(bpffs=tmp_path, instance="edge").root
    (root / "links" / "not-a-file").mkdir(parents=True)
    got = kmeshctl("uninstall", "--yes", "--instance", "edge", "--bpffs", tmp_path)
    assert (got.returncode, got.stdout) == (2, "")
    assert got.stderr == f"kmeshctl: cannot remove {root}/links/not-a-file: Is a directory\n"
