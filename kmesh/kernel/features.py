"""What the kernel must have, probed by asking it: each probe loads the smallest program that needs the feature.

Versions lie (distributions backport); a refused program does not.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from kmesh.errors import FeatureMissing, KernelError
from kmesh.kernel import bpf

__all__ = ["Features", "probe_features", "require_root"]

_REMEDY = "boot a newer kernel (Debian: apt-get install linux-image-amd64, then reboot)"


@dataclass(frozen=True, slots=True)
class Features:
    """What programs may use beyond the minimum."""

    has_set_retval: bool
    """bpf_set_retval() in sock_addr programs, Linux 5.18: refuse with ECONNREFUSED without a packet."""


def _insn(opcode: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, src << 4 | dst, offset, imm)


_RETURN_1 = _insn(0xB7, dst=0, imm=1) + _insn(0x95)  # r0 = 1; exit
_SET_RETVAL = _insn(0xB7, dst=1, imm=-111) + _insn(0x85, imm=187) + _RETURN_1  # bpf_set_retval(-ECONNREFUSED)
_ATOMIC_FETCH = (
    _insn(0x7A, dst=10, offset=-8)  # *(u64 *)(r10 - 8) = 0
    + _insn(0xB7, dst=1, imm=1)
    + _insn(0xDB, dst=10, src=1, offset=-8, imm=0x01)  # r1 = atomic_fetch_add(r10 - 8, r1)
    + _RETURN_1
)


def probe_features() -> Features:
    """Probe everything. Raises KernelError (not root, no BPF) or FeatureMissing, each with its remedy."""
    require_root()
    _require_bpf()
    _require(_RETURN_1, bpf.AttachType.GETPEERNAME4, "cgroup getpeername programs", "5.8")
    _require(_ATOMIC_FETCH, bpf.AttachType.CONNECT4, "atomic fetch-and-add in BPF programs", "5.12")
    return Features(has_set_retval=bpf.can_load(_SET_RETVAL, bpf.AttachType.CONNECT4))


def require_root() -> None:
    """Raises KernelError."""
    if os.geteuid() != 0:
        raise KernelError("kmesh changes what the kernel runs and must run as root: start it with sudo")


def _require_bpf() -> None:
    try:
        os.close(bpf.create_map(bpf.MapType.ARRAY, 4, 8, 1, name="km_probe"))
    except OSError as error:
        raise KernelError(
            f"the kernel refuses bpf(2) ({os.strerror(error.errno or 0)}): run outside containers without "
            "CAP_BPF and CAP_NET_ADMIN, on a kernel built with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF"
        ) from None
    if not bpf.can_load(_RETURN_1, bpf.AttachType.CONNECT4):
        raise FeatureMissing("cgroup connect programs (CONFIG_CGROUP_BPF)", "4.17", _REMEDY)


def _require(program: bytes, attach_type: bpf.AttachType, feature: str, min_kernel: str) -> None:
    if not bpf.can_load(program, attach_type):
        raise FeatureMissing(feature, min_kernel, _REMEDY)
