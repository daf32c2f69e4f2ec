"""A child that shares this process's table of descriptors and only waits, and copies of another's descriptors.

The child is made by clone(CLONE_FILES) without an exec, which would give it a table of its own. It runs no line of
Python: its first and last instruction is pause(2), with every signal blocked, so only SIGKILL ends it. Memory is
shared until this process writes to it; make the child early, when there is little. Source: clone(2), pidfd_getfd(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

__all__ = ["copy_descriptor", "start_holder"]

_CLONE_FILES = 0x400
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_SYS_PIDFD_GETFD = 438
"""The same on every architecture."""
_STACK_BYTES = 64 * 1024
_NEVER_BY_OOM = b"-1000"

_libc = ctypes.CDLL(None, use_errno=True)


def start_holder(name: str) -> int:
    """Start the child and return its process id; `name` (15 characters at most) is what `ps` calls it.

    It is in a process group of its own, is killed by no shortage of memory where this process may say so, and is
    reaped as any child.
    Raises: OSError.
    """
    stack = ctypes.create_string_buffer(_STACK_BYTES)
    top = (ctypes.addressof(stack) + _STACK_BYTES) & ~0xF
    own_name = ctypes.create_string_buffer(16)
    _libc.prctl(_PR_GET_NAME, own_name)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _libc.prctl(_PR_SET_NAME, name.encode()[:15])
    try:
        pause = ctypes.cast(_libc.pause, ctypes.c_void_p)
        flags = _CLONE_FILES | signal.SIGCHLD
        pid: int = _libc.clone(pause, ctypes.c_void_p(top), flags, None)
        error = ctypes.get_errno()
    finally:
        _libc.prctl(_PR_SET_NAME, own_name)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    os.setpgid(pid, 0)
    with contextlib.suppress(PermissionError):  # it takes CAP_SYS_RESOURCE
        Path(f"/proc/{pid}/oom_score_adj").write_bytes(_NEVER_BY_OOM)
    return pid


def copy_descriptor(pidfd: int, descriptor: int) -> int:
    """A new descriptor, closed by exec, of what `descriptor` is in the process of `pidfd`.

    Raises: OSError, with EBADF when it has no such descriptor and ESRCH when it has ended.
    """
    copied: int = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    if copied < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"pidfd_getfd({descriptor}): {os.strerror(error)}")
    return copied
