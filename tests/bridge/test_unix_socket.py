"""kmesh.bridge.unix_socket: whose socket is replaced, whose is not, and who may connect."""

from __future__ import annotations

import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from kmesh.bridge.unix_socket import listening_at
from kmesh.errors import ConfigError


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def leave_stale_socket(path: Path) -> None:
    """What a killed process leaves: a socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sock"
    with listening_at(path):
        got = stat.S_IMODE(path.stat().st_mode)
        assert connects(path)
    assert got == 0o600


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    with listening_at(tmp_path / "a.sock"):
        assert [p.name for p in tmp_path.iterdir()] == ["a.sock"]
    assert list(tmp_path.iterdir()) == []


def test_replaces_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    leave_stale_socket(path)
    with listening_at(path):
        assert connects(path)


def test_never_replaces_a_live_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with listening_at(path):
        with pytest.raises(ConfigError, match="another bridge already serves"), listening_at(path):
            pass
        assert connects(path)
        assert [p.name for p in tmp_path.iterdir()] == ["a.sock"]


def test_a_busy_socket_is_live(tmp_path: Path) -> None:
    """A server too busy to accept makes a client wait; it must not pass for dead, nor make the newcomer hang."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ConfigError, match="another bridge already serves"), listening_at(path):
            pass


def test_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"), listening_at(path):
        pass
    assert path.read_text() == "precious"


def test_leaves_a_successor_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with ExitStack() as successor:
        with listening_at(path):
            path.unlink()
            successor.enter_context(listening_at(path))
        assert connects(path)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("x" * 200, id="longer than a Unix socket's path may be"),
        pytest.param("file/a.sock", id="below a file"),
    ],
)
def test_unusable_paths_are_one_sentence(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot listen at .*; choose another --api-socket"):
        listening_at(tmp_path / path).__enter__()


def test_one_of_many_starters_wins(tmp_path: Path) -> None:
    path, outcomes, over = tmp_path / "a.sock", [], threading.Event()
    leave_stale_socket(path)
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            with listening_at(path):
                outcomes.append("serves")
                over.wait(10)
        except ConfigError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 8:
        threading.Event().wait(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["serves"]
