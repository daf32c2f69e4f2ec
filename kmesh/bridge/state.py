"""The last good configuration on disk: what a start without a control plane serves.

One file in the state directory, a fixed header and a body in msgpack, always replaced whole and atomically: it is
the old one or the new one at any instant of a crash. It holds raw xDS resources, not what was made of them, so a
newer bridge decodes and validates them anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgpack

from kmesh.errors import ConfigError
from kmesh.relay.configuration import CONFIGURATION_FILE

__all__ = ["LOCK_FILE", "SavedState", "StateWriter", "prepare_state_dir", "read_state", "remove_state", "write_state"]

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"
_FILE = "snapshot.msgpack"
_MAGIC = b"kmesh\0st"
_FORMAT = 1
_HEADER = struct.Struct("<8sId16s")  # magic, format, Unix time of the write, digest of the body
_RETRY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """What survives the bridge."""

    resources: Mapping[str, Mapping[str, tuple[str, bytes]]] = field(default_factory=dict)
    """{type_url: {name: (version, serialized resource)}}, as accepted from the control plane."""
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{host name: IP addresses} as last resolved, for DNS clusters while no DNS server answers."""
    written_at: float = 0.0
    """Unix time of the write; set by write_state."""


class _Unusable(Exception):
    """Why a state file does not serve."""


def prepare_state_dir(directory: Path) -> None:
    """Make the directory, readable by its owner only, unless it is there. Raises: ConfigError."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as e:
        raise ConfigError(
            f"cannot create the state directory {directory} ({e.strerror}): give another with --state-dir"
        ) from None
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"the state directory {directory} cannot be written: give another with --state-dir")


def read_state(directory: Path) -> SavedState | None:
    """What write_state left; None when there is nothing, or nothing usable.

    An unusable file is reported and kept beside as snapshot.msgpack.corrupt, instead of an earlier one.
    """
    path = directory / _FILE
    try:
        return _unpack(path.read_bytes())
    except FileNotFoundError:
        return None
    except (_Unusable, OSError) as e:
        kept_as = path.with_name(_FILE + ".corrupt")
        with suppress(OSError):
            path.replace(kept_as)
        logger.warning("saved_state_unusable", extra={"path": path, "reason": e, "kept_as": kept_as})
        return None


def write_state(directory: Path, state: SavedState) -> int:
    """Replace the file; durable on return. Returns its size in bytes.

    Raises: OSError, and then the previous file is whole.
    """
    path = directory / _FILE
    temporary = path.with_name(_FILE + ".tmp")
    header, body = _pack(state, time.time())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(header)
        file.write(body)
        file.flush()
        os.fsync(fd)
    temporary.replace(path)
    _sync_directory(directory)
    return len(header) + len(body)


def remove_state(directory: Path) -> None:
    """Remove what the bridge left, and the directory when nothing else is in it."""
    relays = (CONFIGURATION_FILE, CONFIGURATION_FILE + ".tmp")
    for name in (_FILE, _FILE + ".tmp", _FILE + ".corrupt", *relays, LOCK_FILE):
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _pack(state: SavedState, written_at: float) -> tuple[bytes, bytes]:
    body: bytes = msgpack.packb([state.resources, state.addresses])
    return _HEADER.pack(_MAGIC, _FORMAT, written_at, _digest(body)), body


def _digest(body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _unpack(content: bytes) -> SavedState:
    if content[: len(_MAGIC)] != _MAGIC or len(content) < _HEADER.size:
        raise _Unusable("it is not a state file, or only the beginning of one")
    _, file_format, written_at, digest = _HEADER.unpack_from(content)
    if file_format != _FORMAT:
        raise _Unusable(f"its format is {file_format}, and this version of kmesh reads {_FORMAT}")
    body = memoryview(content)[_HEADER.size :]
    if digest != _digest(body):
        raise _Unusable("it is truncated or damaged: its digest does not match its content")
    try:
        return _from_body(msgpack.unpackb(body), written_at)
    except (TypeError, ValueError, AttributeError, msgpack.UnpackException) as e:
        raise _Unusable(f"its content is not of its format ({e})") from None


def _from_body(body: Any, written_at: float) -> SavedState:
    resources, addresses = body
    return SavedState(
        resources={
            type_url: {name: (version, resource) for name, (version, resource) in by_name.items()}
            for type_url, by_name in resources.items()
        },
        addresses={host: tuple(found) for host, found in addresses.items()},
        written_at=written_at,
    )


class StateWriter:
    """Writes the state a moment after it changed, so that a burst of changes is one write.

    `take` is called on the event loop just before a write; what it returns is read in a thread, so it must be left
    unchanged from then on (a shallow copy of each mapping serves).
    """

    def __init__(self, directory: Path, take: Callable[[], SavedState], *, interval_s: float = 1.0) -> None:
        self._directory = directory
        self._take = take
        self._interval_s = interval_s
        self._changed = asyncio.Event()

    def mark_changed(self) -> None:
        """Have the state written within a little more than `interval_s`. Costs nothing; call it at every change."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled, and then once more if anything changed since."""
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(self._interval_s)
                if not await self._write():
                    await asyncio.sleep(_RETRY_S)
        finally:
            if self._changed.is_set():
                await self._write()

    async def _write(self) -> bool:
        """Returns False, with the change still marked, when the file could not be written."""
        self._changed.clear()
        state, started = self._take(), time.monotonic()
        writing = asyncio.get_running_loop().run_in_executor(None, write_state, self._directory, state)
        try:
            size = await _finish(writing)
        except OSError as e:
            self._changed.set()
            logger.warning("state_not_saved", extra={"directory": self._directory, "reason": e, "retry_s": _RETRY_S})
            return False
        logger.debug("state_saved", extra={"bytes": size, "seconds": round(time.monotonic() - started, 4)})
        return True


async def _finish(writing: asyncio.Future[int]) -> int:
    """The result of `writing`; a cancellation takes effect only after it, as two writes must not meet in one file."""
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise
