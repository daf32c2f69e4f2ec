"""Limits, actions, node kinds and reasons: numbers that C and Python share.

A number, once released, is never given another meaning: pinned maps and programs outlive processes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = ["LIMITS", "Action", "Family", "NodeKind", "Reason", "SockFlag"]

LIMITS = {
    "NODE_FANOUT": 64,
    # Steps on one path, each through a node or a cluster's cell: two nodes of weighted clusters, the cell, two of
    # drops, priorities and localities, and three of endpoints (64 * 64 * 64 of one locality).
    "TREE_DEPTH": 8,
    # A mutable cell is read again when its seal is broken, which takes an update landing between two loads.
    "SEAL_TRIES": 4,
    "UDP_FLOWS": 65536,
    "CURSOR_TICKETS": 4096,
}
"""Rendered as KM_MAX_<NAME>."""


class Action(IntEnum):
    """What a frontend, a cluster or a node entry leads to. Rendered as KM_A_<NAME>."""

    NONE = 0
    """Never written; found only in an entry that no draw may reach."""
    CLUSTER = 1
    """`target` is a cluster id."""
    NODE = 2
    """`target` is a node id."""
    BACKEND = 3
    """`target` is a backend id."""
    PASS = 4
    """Connect to the address the application asked for (ORIGINAL_DST)."""
    REFUSE = 5
    """Refuse with ECONNREFUSED; `target` is the Reason."""


class NodeKind(IntEnum):
    """How a node chooses among its entries. Rendered as KM_K_<NAME>."""

    ALIAS = 1
    """Weighted random in O(1): draw an entry, then the entry or its alias (Vose's alias method)."""
    CURSOR = 2
    """Take the next ticket of the node's cursor, modulo `total`, and index with it."""
    INDEX = 3
    """Index with what is left of the ticket: entry = ticket / stride, rest = ticket % stride."""


class Reason(IntEnum):
    """Why a connect or a datagram ended as it did; each is a counter. Rendered as KM_R_<NAME>."""

    NONE = 0
    NOT_MESH = 1
    """No frontend has this address: left alone."""
    BALANCED = 2
    """Sent to a backend."""
    PASSED = 3
    """The configuration says the original destination."""
    OWN = 4
    """A socket of kmesh's own: left alone."""
    FLOW = 5
    """A datagram of a flow that already has its backend."""
    NO_ENDPOINT = 6
    """The cluster has no usable endpoint: refused."""
    NO_CLUSTER = 7
    """The configuration names a cluster that does not exist: refused."""
    UNSUPPORTED = 8
    """The configuration asks for what kmesh cannot honour yet (kmeshctl status names it): refused."""
    OVERLOAD_DROP = 9
    """A drop_overload share: refused."""
    NO_ROUTE = 10
    """No filter chain or route takes the connection: refused."""
    FAMILY = 11
    """The chosen endpoint has no address of a family that the call can be sent to: refused. An IPv4 socket reaches
    no IPv6 endpoint, and sendmsg() to an IPv6 address no IPv4 one."""
    BLACKHOLE = 12
    """The cluster is meant to have no endpoints (istiod's BlackHoleCluster): refused."""
    BROKEN = 13
    """A record was missing or its seal stayed broken: refused, never guessed."""


class SockFlag(IntFlag):
    """Flags of the per-socket record. Rendered as KM_S_<NAME>."""

    OWN = 1
    """Belongs to kmesh: never rewritten."""
    REWRITTEN = 2
    """connect() was rewritten; the record holds the address asked for."""


class Family(IntFlag):
    """Which addresses a backend has. Rendered as KM_F_<NAME>."""

    V4 = 1
    V6 = 2
