"""A process by its id and start time, which together are never another's while the machine runs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessId", "has_ended", "reap"]

_START_TIME = 19
"""Field 22 of /proc/PID/stat, counted behind the name in parentheses. Source: proc(5)."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    pid: int
    started: int
    """Clock ticks since boot."""

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Raises: ProcessLookupError."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            raise ProcessLookupError(f"no process {pid}") from None
        return cls(pid, int(stat.rpartition(")")[2].split()[_START_TIME]))

    def open(self) -> int | None:
        """A pidfd; None when that process has ended, whether or not its parent knows."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return None
        try:
            if self.of(self.pid) == self and not has_ended(pidfd):
                return pidfd
        except ProcessLookupError:
            pass
        os.close(pidfd)
        return None

    def is_running(self) -> bool:
        pidfd = self.open()
        if pidfd is None:
            return False
        os.close(pidfd)
        return True

    def kill(self, timeout_s: float = 5.0) -> bool:
        """End it by SIGKILL and wait for that; False when it had ended. Raises: TimeoutError."""
        pidfd = self.open()
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if not has_ended(pidfd, timeout_s):
                raise TimeoutError(f"process {self.pid} does not end")
            reap(pidfd)
        finally:
            os.close(pidfd)
        return True


def has_ended(pidfd: int, timeout_s: float = 0.0) -> bool:
    """Whether all of the process's threads have ended, or do within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def reap(pidfd: int) -> None:
    """If it has ended and is a child of this process, let the kernel forget it."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
