"""The kernel's decision in Python, step for step: the oracle of its tests.

Executes the tables of a MapImage and nothing else; what the tables mean is defined here:

1. *Frontend.* Look up (address, port, protocol). If there is none, the wildcard address of the destination's family
   (v4-mapped zero, or all zero) with the port. If there is none and the protocol is TCP, that wildcard with port 0.
   127.0.0.1 and ::1 have no wildcard: what a pod says to itself is its own. If there is none: NOT_MESH, the socket is
   left alone. The first cell that exists decides, also when it is broken.
2. *Cells.* A cell whose seal does not match its key is read again, KM_MAX_SEAL_TRIES times in all; then BROKEN.
3. *Descent.* At most KM_MAX_TREE_DEPTH steps, each through a cluster's cell (CLUSTER) or a node (NODE), until another
   action is found. A missing record, or steps used up: BROKEN.
4. *Nodes.* ALIAS draws twice: index = draw * count >> 32, and it stays when the second draw <= threshold, else goes
   to `alias`. CURSOR takes a ticket, fetch_add(cursor, 1) % total; then, as INDEX with the ticket that is left, index
   = ticket / stride and ticket %= stride. A ticket is 0 until there was a CURSOR. An index beyond the node (beyond
   `count` but for ALIAS, where such an entry's action is NONE), a `total` or `stride` of 0, a missing cursor, another
   kind: BROKEN.
5. *End.* BACKEND: step 6. PASS: PASSED. REFUSE: the reason in `target`, or BROKEN if that is not a refusal. NONE and
   anything unknown: BROKEN.
6. *Address.* The backend's IPv4 address (v4-mapped for an IPv6 socket) when it has one and the destination was IPv4
   or it has no IPv6 address; else its IPv6 address; but an IPv4 socket then gets FAMILY. No address at all: BROKEN.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from socket import htons, ntohs

from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.descent import Descent, Tables, descend, read_cell
from kmesh.maps.image import MapName
from kmesh.model.address import (
    LOOPBACK_V4,
    LOOPBACK_V6,
    V4_MAPPED,
    WILDCARD_V4,
    WILDCARD_V6,
    Protocol,
    SocketAddress,
)
from kmesh.records.constants import Action, Family, Reason
from kmesh.records.layout import BACKEND, FRONTEND_KEY, ID

__all__ = ["Decision", "Tables", "decide", "is_refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    reason: Reason
    """BALANCED, PASSED, NOT_MESH, or why the connection is refused."""
    address: SocketAddress | None = None
    """Where to connect to; only when BALANCED."""
    backend: int = 0
    """Its id; 0 unless BALANCED or FAMILY."""


def decide(
    tables: Tables,
    destination: SocketAddress,
    protocol: Protocol,
    *,
    is_ipv6_socket: bool,
    draw: Callable[[], int],
    cursors: MutableMapping[int, int],
) -> Decision:
    """What connect() to `destination` does.

    `draw` gives 32-bit random numbers. `cursors` holds the state of those in the tables, by id, and is advanced; one
    it lacks starts at the value in the tables.
    """
    descent = Descent(tables=tables, draw=draw, cursors=cursors)
    try:
        way = _find_frontend(tables, destination, protocol)
        if way is None:
            return Decision(reason=Reason.NOT_MESH)
        action, target = descend(descent, *way, through=(Action.CLUSTER, Action.NODE))
        if action == Action.BACKEND:
            return _address(tables, target, destination, is_ipv6_socket)
        if action == Action.PASS:
            return Decision(reason=Reason.PASSED)
        if action == Action.ROUTES:
            return Decision(reason=Reason.ROUTED)
        if action == Action.REFUSE and is_refusal(target):
            return Decision(reason=Reason(target))
    except Broken:
        pass
    return Decision(reason=Reason.BROKEN)


def is_refusal(reason: int) -> bool:
    """Whether a reason ends in ECONNREFUSED."""
    return Reason.NO_ENDPOINT <= reason <= max(Reason)


def _find_frontend(tables: Tables, destination: SocketAddress, protocol: Protocol) -> tuple[int, int] | None:
    wildcard = WILDCARD_V4 if destination.is_v4 else WILDCARD_V6
    tries = [(destination.addr16, destination.port)]
    if destination.addr16 not in (LOOPBACK_V4, LOOPBACK_V6):
        tries.append((wildcard, destination.port))
        if protocol is Protocol.TCP:
            tries.append((wildcard, 0))
    for addr16, port in tries:
        way = read_cell(tables[MapName.FRONTEND], FRONTEND_KEY.pack(addr16, htons(port), protocol))
        if way:
            return way
    return None


def _address(tables: Tables, backend: int, destination: SocketAddress, is_ipv6_socket: bool) -> Decision:
    record = tables[MapName.BACKEND].get(ID.pack(backend))
    if record is None:
        raise Broken
    addr6, addr4, port6_be, port4_be, families, _, _ = BACKEND.struct.unpack(record)
    has_v4, has_v6 = bool(families & Family.V4), bool(families & Family.V6)
    if not (has_v4 or has_v6):
        raise Broken
    if has_v4 and (destination.is_v4 or not has_v6):
        address = SocketAddress(V4_MAPPED + addr4, ntohs(port4_be))
    elif is_ipv6_socket:
        address = SocketAddress(addr6, ntohs(port6_be))
    else:
        return Decision(reason=Reason.FAMILY, backend=backend)
    return Decision(reason=Reason.BALANCED, address=address, backend=backend)
