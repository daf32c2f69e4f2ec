"""Who is the relay, and which keepers hold what: one file in the runtime directory, replaced whole at each step.

    step                        journal        others
    a relay claims the place    the old one    the old ones, and its own
    it has adopted              its own        the old ones
    their keepers are killed    its own        -

`journal` is the one to adopt from, so a relay that dies at any step leaves what the next one needs, and what it has
copied itself is held twice until then. A keeper is found by its process id; one that was not written down, since the
relay died when it had just made it, by the inode of the journal, which no other process has.

The place is claimed under a lock that is held only until the claim is written, and before there is a keeper: a lock
lives as long as the descriptor table that it was taken in, and a keeper's outlives the relay.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kmesh.errors import ConfigError
from kmesh.relay.process_id import ProcessId

__all__ = [
    "RECORD_FILE",
    "JournalId",
    "RelayRecord",
    "claim",
    "end_relay",
    "find_keeper",
    "note_keeper",
    "read_record",
    "write_record",
]

RECORD_FILE = "relay.json"
_LOCK_FILE = "relay.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalId:
    """A journal, and the keeper in whose table it is."""

    descriptor: int
    inode: int
    keeper: ProcessId | None = None
    """None while it is not written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRecord:
    boot: str
    """The kernel's id of this boot, without which process ids mean nothing."""
    relay: ProcessId
    build: str
    """What the relay was made of, as the bridge that started it says."""
    journal: JournalId | None
    others: tuple[JournalId, ...]
    """Whose keepers are to be killed once `journal` is the relay's own."""


def claim(runtime_dir: Path, build: str, own: JournalId) -> RelayRecord:
    """Become the relay of this directory, which is made if need be. Call it before there is a keeper.

    Raises: ConfigError when another process is the relay, naming it.
    """
    runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(runtime_dir):
        old = read_record(runtime_dir)
        if old and old.relay.is_running():
            raise ConfigError(f"process {old.relay.pid} is the relay of {runtime_dir}: stop it first")
        record = RelayRecord(
            boot=_boot_id(),
            relay=ProcessId.of(os.getpid()),
            build=build,
            journal=old.journal if old else None,
            others=(*(old.others if old else ()), own),
        )
        write_record(runtime_dir, record)
    return record


def read_record(runtime_dir: Path) -> RelayRecord | None:
    """None when there is none of this boot."""
    try:
        plain = json.loads((runtime_dir / RECORD_FILE).read_text())
        record = RelayRecord(
            boot=plain["boot"],
            relay=ProcessId(**plain["relay"]),
            build=plain["build"],
            journal=_journal_id(plain["journal"]) if plain["journal"] else None,
            others=tuple(map(_journal_id, plain["others"])),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return record if record.boot == _boot_id() else None


def write_record(runtime_dir: Path, record: RelayRecord) -> None:
    """Replace the file; only the relay that it names does."""
    partial = runtime_dir / f".{RECORD_FILE}.{os.getpid()}"
    partial.write_text(json.dumps(asdict(record), indent=1))
    partial.replace(runtime_dir / RECORD_FILE)


def note_keeper(record: RelayRecord, inode: int, keeper: ProcessId) -> RelayRecord:
    """With the keeper of the journal with that inode."""

    def named(journal: JournalId) -> JournalId:
        return replace(journal, keeper=keeper) if journal.inode == inode else journal

    journal = named(record.journal) if record.journal else None
    return replace(record, journal=journal, others=tuple(map(named, record.others)))


def find_keeper(journal: JournalId) -> ProcessId | None:
    """The process that has the journal in its table; None when there is none any more."""
    if journal.keeper and journal.keeper.is_running():
        return journal.keeper
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _has_journal(int(entry.name), journal):
            with contextlib.suppress(ProcessLookupError):
                return ProcessId.of(int(entry.name))
    return None


def end_relay(runtime_dir: Path) -> list[str]:
    """Kill the relay and every keeper, which closes all their sockets; returns what was killed and removed."""
    record = read_record(runtime_dir)
    done = []
    if record:
        if record.relay.kill():
            done.append(f"relay process {record.relay.pid} of {runtime_dir}")
        record = read_record(runtime_dir) or record  # as it was left
        for journal in (record.journal, *record.others):
            keeper = find_keeper(journal) if journal else None
            if keeper and keeper.kill():
                done.append(f"keeper process {keeper.pid} of {runtime_dir}")
    if runtime_dir.is_dir():
        for path in runtime_dir.iterdir():
            path.unlink()
        runtime_dir.rmdir()
        done.append(str(runtime_dir))
    return done


@contextlib.contextmanager
def _locked(runtime_dir: Path) -> Iterator[None]:
    fd = os.open(runtime_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _has_journal(pid: int, journal: JournalId) -> bool:
    try:
        path = Path(f"/proc/{pid}/fd/{journal.descriptor}")
        return path.stat().st_ino == journal.inode and str(path.readlink()).startswith("/memfd:kmesh-journal")
    except OSError:
        return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _journal_id(plain: dict[str, object]) -> JournalId:
    keeper = plain["keeper"]
    return JournalId(
        descriptor=int(str(plain["descriptor"])),
        inode=int(str(plain["inode"])),
        keeper=ProcessId(**keeper) if isinstance(keeper, dict) else None,
    )
