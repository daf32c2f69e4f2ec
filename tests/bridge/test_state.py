"""The saved state: what is read is what was written, or nothing; and writes are few."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kmesh.bridge.state import SavedState, StateWriter, prepare_state_dir, read_state, write_state
from kmesh.errors import ConfigError

STATE = SavedState(
    resources={
        "type.googleapis.com/envoy.config.cluster.v3.Cluster": {
            "outbound|80||b": ("1", b"\x0a\x01b"),
            "x" * 65536: ("", bytes(70_000)),
        },
        "type.googleapis.com/envoy.config.listener.v3.Listener": {},
    },
    addresses={"backend.test": ("10.0.0.1", "2001:db8::1"), "gone.test": ()},
)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "lib" / "kmesh" / "default"
    prepare_state_dir(directory)
    return directory


def test_round_trip(state_dir: Path) -> None:
    size = write_state(state_dir, STATE)
    got = read_state(state_dir)
    assert got is not None
    assert (got.resources, got.addresses) == (STATE.resources, STATE.addresses)
    assert got.written_at > 1.7e9
    assert [f.name for f in state_dir.iterdir()] == ["snapshot.msgpack"]
    assert (state_dir / "snapshot.msgpack").stat().st_size == size


def test_a_write_replaces_the_file_and_survives_a_leftover(state_dir: Path) -> None:
    (state_dir / "snapshot.msgpack.tmp").write_bytes(b"left by a crash, and longer than what is written now" * 10_000)
    write_state(state_dir, STATE)
    write_state(state_dir, SavedState(addresses={"a": ("10.0.0.1",)}))
    got = read_state(state_dir)
    assert got is not None
    assert (got.resources, got.addresses) == ({}, {"a": ("10.0.0.1",)})


def test_only_the_owner_can_read(state_dir: Path) -> None:
    previous = os.umask(0)
    try:
        write_state(state_dir, STATE)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((state_dir / "snapshot.msgpack").stat().st_mode) == 0o600


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare_state_dir(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot create the state directory"):
        prepare_state_dir(tmp_path / "file" / "default")


def test_nothing_saved_is_none_and_not_reported(state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_state(state_dir) is None
    assert read_state(state_dir / "nowhere") is None
    assert not caplog.records


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "want"),
    [
        pytest.param(lambda content: b"", "it is not a state file", id="empty"),
        pytest.param(lambda content: b"{}", "it is not a state file", id="another file"),
        pytest.param(lambda content: content[:20], "only the beginning", id="cut in the header"),
        pytest.param(lambda content: content[:36], "truncated or damaged", id="cut after the header"),
        pytest.param(lambda content: content[:-1], "truncated or damaged", id="cut in the body"),
        pytest.param(lambda content: content + b"\0", "truncated or damaged", id="longer"),
        pytest.param(flip(-100), "truncated or damaged", id="one bit of the body"),
        pytest.param(flip(25), "truncated or damaged", id="one bit of the digest"),
        pytest.param(flip(8), "its format is 0, and this version of kmesh reads 1", id="another format"),
    ],
)
def test_an_unusable_file_is_reported_and_kept_aside(
    damage: Callable[[bytes], bytes], want: str, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_state(state_dir, STATE)
    path = state_dir / "snapshot.msgpack"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)

    assert read_state(state_dir) is None
    assert read_state(state_dir) is None
    assert [f.name for f in state_dir.iterdir()] == ["snapshot.msgpack.corrupt"]
    assert (state_dir / "snapshot.msgpack.corrupt").read_bytes() == damaged
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "saved_state_unusable")
    assert want in str(record.__dict__["reason"])


def test_content_of_another_shape_under_a_right_digest(state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_state(state_dir, SavedState(resources={"t": {"n": ("1", b"", "extra")}}))  # type: ignore[dict-item]
    assert read_state(state_dir) is None
    assert "its content is not of its format" in str(caplog.records[0].__dict__["reason"])


class Source:
    """Counts how often its state is taken."""

    def __init__(self) -> None:
        self.version = 0
        self.taken = 0

    def take(self) -> SavedState:
        self.taken += 1
        return SavedState(resources={"t": {"n": (str(self.version), b"")}})


def saved_version(state_dir: Path) -> str | None:
    state = read_state(state_dir)
    return state.resources["t"]["n"][0] if state else None


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_burst_of_changes_is_one_write(state_dir: Path) -> None:
    async def main() -> None:
        source = Source()
        writer = StateWriter(state_dir, source.take, interval_s=0.05)
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(0.1)
        assert source.taken == 0
        for source.version in range(1, 101):
            writer.mark_changed()
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert (source.taken, saved_version(state_dir)) == (1, "100")
        await stop(task)
        assert source.taken == 1

    asyncio.run(main())


@pytest.mark.parametrize("delay_s", [0, 0.03, 0.055], ids=["at once", "while waiting", "around the write"])
def test_stopping_writes_what_is_left(delay_s: float, state_dir: Path) -> None:
    async def main() -> None:
        source = Source()
        writer = StateWriter(state_dir, source.take, interval_s=0.05)
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(0)
        source.version = 7
        writer.mark_changed()
        await asyncio.sleep(delay_s)
        await stop(task)
        assert saved_version(state_dir) == "7"

    asyncio.run(main())


def test_a_failed_write_is_reported_and_kept_for_later(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = Source()
        writer = StateWriter(state_dir / "not yet", source.take, interval_s=0.01)
        task = asyncio.create_task(writer.run())
        writer.mark_changed()
        for _ in range(1000):
            if caplog.records:
                break
            await asyncio.sleep(0.01)
        assert [r.message for r in caplog.records] == ["state_not_saved"]
        (state_dir / "not yet").mkdir()
        await stop(task)
        assert saved_version(state_dir / "not yet") == "0"

    asyncio.run(main())
