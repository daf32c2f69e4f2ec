"""The programs, and where each attaches."""

from __future__ import annotations

from kmesh.kernel.bpf import AttachType

__all__ = ["HOOKS"]

HOOKS: dict[str, AttachType] = {
    "km_getpeername4": AttachType.GETPEERNAME4,
    "km_getpeername6": AttachType.GETPEERNAME6,
    "km_recvmsg4": AttachType.RECVMSG4,
    "km_recvmsg6": AttachType.RECVMSG6,
    "km_sendmsg4": AttachType.SENDMSG4,
    "km_sendmsg6": AttachType.SENDMSG6,
    "km_connect4": AttachType.CONNECT4,
    "km_connect6": AttachType.CONNECT6,
}
"""In attachment order: what undoes a rewrite is there before what rewrites."""
