"""One relay's beginning: it claims the place, makes its keeper, adopts, and lets the predecessor's keeper go.

Every step may be the last one of a process; kmesh.relay.record says what the next one then finds.
"""

from __future__ import annotations

from pathlib import Path

from kmesh.relay.adoption import Adopted, adopt, settle
from kmesh.relay.journal import Journal
from kmesh.relay.keeper import Keeper
from kmesh.relay.process_id import ProcessId
from kmesh.relay.record import JournalId, claim, note_keeper, write_record

__all__ = ["Succession"]


class Succession:
    """Hold it as long as the process lives: it owns every adopted socket."""

    def __init__(self, runtime_dir: Path, build: str) -> None:
        """Claim and make the keeper; call it early, since the keeper has a copy of this process's memory.

        Raises: ConfigError when another process is the relay; OSError.
        """
        self._runtime_dir = runtime_dir
        self.journal = Journal()
        self._own = JournalId(descriptor=self.journal.descriptor, inode=self.journal.inode)
        self._record = claim(runtime_dir, build, self._own)
        self.keeper = Keeper(self._note_keeper)
        self.adopted = Adopted()

    def take_over(self) -> Adopted:
        """Adopt all that the predecessor left, and end its keeper. Raises: JournalUnreadable, OSError."""
        self.adopted = adopt(self._record, self.journal)
        self._record = settle(self._runtime_dir, self._record, self._own)
        return self.adopted

    def _note_keeper(self, keeper: ProcessId) -> None:
        self._own = JournalId(descriptor=self._own.descriptor, inode=self._own.inode, keeper=keeper)
        self._record = note_keeper(self._record, self._own.inode, keeper)
        write_record(self._runtime_dir, self._record)
