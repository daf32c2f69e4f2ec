"""The programs, and where each attaches."""

from __future__ import annotations

from kmesh.kernel.bpf import AttachType

__all__ = ["DELIVERED", "HOOKS", "MAP_HOOKS", "PROGRAMS", "STEPS"]

HOOKS: dict[str, AttachType] = {
    "km_getpeername4": AttachType.GETPEERNAME4,
    "km_getpeername6": AttachType.GETPEERNAME6,
    "km_recvmsg4": AttachType.RECVMSG4,
    "km_recvmsg6": AttachType.RECVMSG6,
    "km_sendmsg4": AttachType.SENDMSG4,
    "km_sendmsg6": AttachType.SENDMSG6,
    "km_sockops": AttachType.SOCK_OPS,
    "km_connect4": AttachType.CONNECT4,
    "km_connect6": AttachType.CONNECT6,
}
"""In attachment order: what undoes a rewrite is there before what rewrites."""

_SCHED_CLS, _SOCK_OPS, _SK_SKB, _SK_MSG, _CGROUP_SOCK_ADDR = 3, 13, 14, 16, 18
_MSG_VERDICT, _SKB_VERDICT = 7, 38
MAP_HOOKS: dict[str, tuple[str, int]] = {
    "km_skb": ("km_upstreams", _SKB_VERDICT),
    "km_skb_client": ("km_clients", _SKB_VERDICT),
    "km_msg": ("km_clients", _MSG_VERDICT),
}
"""Programs of the sockets of a map: (map, attach type). They go with the maps, whoever holds these."""
STEPS: dict[str, tuple[str, int]] = {
    "km_msg_head": ("km_msg_steps", 0),
    "km_msg_match": ("km_msg_steps", 1),
    "km_msg_send": ("km_msg_steps", 2),
    "km_skb_answer": ("km_skb_steps", 0),
    "km_skb_chunks": ("km_skb_steps", 1),
}
"""Programs that others call: (program array, place)."""
DELIVERED = "km_delivered"
"""What the relay runs itself."""


def _type_of(name: str) -> int:
    if name == DELIVERED:
        return _SCHED_CLS
    if name == "km_sockops":
        return _SOCK_OPS
    if name.startswith("km_skb"):
        return _SK_SKB
    return _SK_MSG if name.startswith("km_msg") else _CGROUP_SOCK_ADDR


PROGRAMS: dict[str, tuple[int, int]] = {
    name: (_type_of(name), int(HOOKS.get(name, -1))) for name in (*HOOKS, *MAP_HOOKS, *STEPS, DELIVERED)
}
"""(program type, expected attach type or -1)."""
