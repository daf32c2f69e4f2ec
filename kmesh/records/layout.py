"""Record layouts: natural alignment, explicit zero padding, little endian unless a field ends in `_be`.

Two sorts of record. *Cells* (of frontends and of clusters) are replaced in place and carry a seal that ties the value
to its key, because the kernel may reuse a replaced hash element while a program still reads it (kmesh.records.seal).
*Immutable* records (node, backend) are keyed by a digest of their content, so they are only ever added and, once
no cell leads to them and every running program has ended, deleted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from kmesh.records.constants import LIMITS

__all__ = [
    "ACCEPTOR",
    "ALL",
    "BACKEND",
    "BOUND_KEY",
    "CELL",
    "CLUSTER",
    "DECISION",
    "DOMAIN",
    "ENTRY",
    "EVENT",
    "EXCHANGE",
    "FRONTEND",
    "FRONTEND_KEY",
    "GRANT",
    "ID",
    "INDEX",
    "INDEX_ENTRY",
    "NODE",
    "PAGE",
    "PAGE_KEY",
    "PEER",
    "PEER_KEY",
    "POOL_KEY",
    "ROUTE",
    "ROUTES",
    "ROUTING",
    "SLOT",
    "SOCK",
    "STREAM",
    "TEST",
    "UDP_FLOW",
    "UDP_FLOW_KEY",
    "Field",
    "Record",
]

ID = struct.Struct("<Q")
"""The key of every record that has an id or a link."""

_SCALARS = {"u8": ("B", 1), "u16": ("H", 2), "u32": ("I", 4), "u64": ("Q", 8)}


@dataclass(frozen=True, slots=True)
class Field:
    """One member: a scalar ("u32"), or an array of scalars or records, which is packed as its bytes."""

    name: str
    type: str
    count: int = 1
    record: Record | None = None
    doc: str = ""

    @property
    def size(self) -> int:
        return self.count * (self.record.size if self.record else _SCALARS[self.type][1])

    @property
    def alignment(self) -> int:
        return self.record.alignment if self.record else _SCALARS[self.type][1]

    @property
    def format(self) -> str:
        if self.record or self.count > 1:
            return f"{self.size}s"
        return _SCALARS[self.type][0]


@dataclass(frozen=True, slots=True)
class Record:
    """A C struct. Pads are fields named `pad*`: `pack` writes them as zero and takes no value for them."""

    name: str
    doc: str
    fields: tuple[Field, ...]
    struct: struct.Struct = field(init=False)
    names: tuple[str, ...] = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        at = 0
        for f in self.fields:
            assert at % f.alignment == 0, f"{self.name}.{f.name} is not aligned: pad it"
            at += f.size
        assert at % self.alignment == 0, f"{self.name} needs tail padding"
        object.__setattr__(self, "size", at)
        object.__setattr__(self, "struct", struct.Struct("<" + "".join(f.format for f in self.fields)))
        object.__setattr__(self, "names", tuple(f.name for f in self.fields if not f.name.startswith("pad")))

    @property
    def alignment(self) -> int:
        return max(f.alignment for f in self.fields)

    def offset(self, name: str) -> int:
        """Of field `name`, in bytes."""
        at = 0
        for f in self.fields:
            if f.name == name:
                return at
            at += f.size
        raise KeyError(name)

    def pack(self, *values: int | bytes) -> bytes:
        """Pack the values of `names`, in order; an array as its joined bytes (zero filled when short)."""
        if len(values) != len(self.names):
            raise TypeError(f"{self.name} takes {self.names}")
        given = iter(values)
        row: list[int | bytes] = []
        for f in self.fields:
            if f.name.startswith("pad"):
                row.append(bytes(f.size) if f.format.endswith("s") else 0)
            else:
                row.append(next(given))
        return self.struct.pack(*row)

    def unpack(self, data: bytes) -> dict[str, int | bytes]:
        """The named fields of one packed record; pads are left out."""
        row: Sequence[int | bytes] = self.struct.unpack(data)
        return {f.name: value for f, value in zip(self.fields, row, strict=True) if not f.name.startswith("pad")}


FRONTEND_KEY = Record(
    "km_frontend_key",
    "A captured destination. A wildcard listener has the all-zero address of its family (v4-mapped for IPv4); "
    "port 0 of a wildcard is the listener that takes what no other does (use_original_dst). No wildcard takes "
    "127.0.0.1 or ::1.",
    (
        Field("addr16", "u8", 16, doc="network order, IPv4 v4-mapped"),
        Field("port_be", "u16", doc="network order: pack with socket.htons"),
        Field("protocol", "u8", doc="IPPROTO_TCP or IPPROTO_UDP"),
        Field("pad", "u8"),
    ),
)
CELL = Record(
    "km_cell",
    "Where a frontend or a cluster leads now.",
    (
        Field("target", "u64", doc="cluster, node or backend id, or a reason, as `action` says"),
        Field("action", "u32", doc="KM_A_*; never KM_A_CLUSTER in a cluster's cell"),
        Field("pad", "u32"),
        Field("seal", "u64", doc="km_seal over the cell's key, then target, then action"),
    ),
)
FRONTEND = CELL
"""Keyed by FRONTEND_KEY."""
CLUSTER = CELL
"""Keyed by the cluster's id (u64)."""
ENTRY = Record(
    "km_entry",
    "One way out of a node.",
    (
        Field("threshold", "u32", doc="ALIAS: stay when a 32-bit draw is <= this, else take the alias"),
        Field("alias", "u16", doc="ALIAS: index of the other entry"),
        Field("action", "u16", doc="KM_A_*"),
        Field("target", "u64"),
    ),
)
NODE = Record(
    "km_node",
    "Immutable, keyed by content (u64): one choice among up to KM_MAX_NODE_FANOUT entries.",
    (
        Field("kind", "u32", doc="KM_K_*"),
        Field("count", "u32", doc="entries in use, 1 to KM_MAX_NODE_FANOUT"),
        Field("total", "u32", doc="CURSOR: tickets in the whole subtree; else 0"),
        Field("stride", "u32", doc="CURSOR, INDEX: tickets under one entry; else 0"),
        Field("cursor", "u64", doc="CURSOR: id of its counter; else 0"),
        Field("entries", "km_entry", LIMITS["NODE_FANOUT"], ENTRY),
    ),
)
BACKEND = Record(
    "km_backend",
    "Immutable, keyed by content (u64): an endpoint of one cluster.",
    (
        Field("addr6", "u8", 16, doc="network order; zero without KM_F_V6"),
        Field("addr4_be", "u8", 4, doc="network order; zero without KM_F_V4"),
        Field("port6_be", "u16"),
        Field("port4_be", "u16"),
        Field("families", "u32", doc="KM_F_*"),
        Field("pad", "u32"),
        Field("cluster", "u64", doc="id of the cluster it serves"),
    ),
)
SOCK = Record(
    "km_sock",
    "Socket storage: what the application asked for, and whose socket it is.",
    (
        Field("addr16", "u8", 16),
        Field("port_be", "u16"),
        Field("protocol", "u8"),
        Field("flags", "u8", doc="KM_S_*"),
        Field("pad", "u32"),
        Field("routing", "u64", doc="ROUTED: the routing unit"),
        Field("netns", "u64", doc="ROUTED: cookie of the network namespace"),
        Field("cookie", "u64", doc="STREAM: of the socket"),
    ),
)
UDP_FLOW_KEY = Record(
    "km_udp_flow_key",
    "A UDP socket and a peer: forward from the service address, reverse from the backend's.",
    (
        Field("cookie", "u64", doc="socket cookie"),
        Field("addr16", "u8", 16),
        Field("port_be", "u16"),
        Field("is_reverse", "u16"),
        Field("pad", "u32"),
    ),
)
UDP_FLOW = Record(
    "km_udp_flow",
    "Forward: the backend that serves the flow. Reverse: the service address to show.",
    (
        Field("addr16", "u8", 16),
        Field("port_be", "u16"),
        Field("pad", "u8", 6),
        Field("backend", "u64", doc="forward: backend id, which must still exist; reverse: 0"),
        Field("target", "u64", doc="forward: the frontend's target when chosen; reverse: 0"),
    ),
)
PAGE_KEY = Record(
    "km_page_key",
    "One page of an automaton.",
    (
        Field("automaton", "u64", doc="by content of all its pages"),
        Field("page", "u32", doc="state / KM_MAX_PAGE_SLOTS"),
        Field("pad", "u32"),
    ),
)
SLOT = Record(
    "km_slot",
    "A state's header, a half of its output, or one of its transitions.",
    (
        Field("check", "u32", doc="KM_T_*"),
        Field("word", "u32", doc="header and transition: next state and event; output: 32 bits of it"),
    ),
)
PAGE = Record(
    "km_page",
    "Immutable: states of one automaton. State s has its header at slot s % KM_MAX_PAGE_SLOTS, its output in the two "
    "slots behind when it has one, and its transition by a byte of class c in slot header + 3 + c, when the check "
    "there says so; else the header's.",
    (
        Field("classes", "u8", 256, doc="the class of each byte"),
        Field("slots", "km_slot", LIMITS["PAGE_SLOTS"], SLOT),
    ),
)
ROUTE = Record(
    "km_route",
    "Immutable, keyed by link: what becomes of a request.",
    (
        Field("action", "u32", doc="KM_A_CLUSTER, KM_A_NODE or KM_A_HANDOVER"),
        Field("route", "u32", doc="its place in the virtual host, from 0"),
        Field("target", "u64"),
        Field("per_million", "u32", doc="of requests it takes by chance, 1 to 1000000"),
        Field("pad", "u32"),
        Field("otherwise", "u64", doc="link for the others"),
    ),
)
TEST = Record(
    "km_test",
    "One automaton over one field. With a value the outcome is its output (ORed over several values) ^ inverted.",
    (
        Field("field", "u64", doc="KM_FIELD_*, or a digest with KM_FIELD_IS_*"),
        Field("automaton", "u64", doc="0: its output is 0"),
        Field("inverted", "u64"),
        Field("absent", "u64", doc="the outcome without a value"),
    ),
)
DECISION = Record(
    "km_decision",
    "Immutable, keyed by link: routes told apart by fields.",
    (
        Field("kind", "u32", doc="KM_D_*"),
        Field("test_count", "u32"),
        Field("next", "u64", doc="link when nothing is found here"),
        Field("tests", "km_test", LIMITS["DECISION_TESTS"], TEST),
        Field("links", "u64", LIMITS["DECISION_BITS"], doc="TEST: of each bit"),
    ),
)
DOMAIN = Record(
    "km_domain",
    "Immutable, keyed by content (u64): one domain of a virtual host.",
    (
        Field("link", "u64", doc="to the virtual host's routes"),
        Field("length", "u32", doc="of text, in bytes"),
        Field("pad", "u32"),
        Field("text", "u8", LIMITS["HOST_BYTES"], doc="lower case"),
    ),
)
INDEX_ENTRY = Record(
    "km_index_entry",
    "Of a leaf: a domain by the hash of its text. Else an index and the least hash below it.",
    (Field("key", "u64"), Field("target", "u64", doc="id of a domain, or of an index")),
)
INDEX = Record(
    "km_index",
    "Immutable, keyed by content (u64): hashes in ascending order, a node of a B-tree.",
    (
        Field("count", "u32", doc="entries in use, 1 to KM_MAX_INDEX_FANOUT"),
        Field("level", "u32", doc="0 for a leaf"),
        Field("entries", "km_index_entry", LIMITS["INDEX_FANOUT"], INDEX_ENTRY),
    ),
)
ROUTES = Record(
    "km_routes",
    "Immutable, keyed by content (u64): a route configuration under the options of a connection manager.",
    (
        Field("head", "u64", doc="automaton that reads heads"),
        Field("domains", "u64", doc="index of all domains; 0 for none"),
        Field("wildcards", "u64", doc="automaton from Host to the hash of its wildcard domain; 0 for none"),
        Field("flags", "u32", doc="KM_RF_*"),
        Field("relayed_marks", "u32", doc="KM_M_*: paths with one of them are normalised by the relay"),
        Field("answers", "u64", doc="automaton that reads heads of answers"),
    ),
)
ROUTING = CELL
"""Keyed by the id of the routing unit (u64); action is KM_A_ROUTES."""

ACCEPTOR = Record(
    "km_acceptor",
    "Where the relay accepts, by cookie of the network namespace (u64): ports of 127.0.0.1 and of ::1; 0 for none. "
    "With neither it was asked for.",
    (Field("port4_be", "u16"), Field("port6_be", "u16"), Field("pad", "u32")),
)
PEER_KEY = Record(
    "km_peer_key",
    "A connection as the acceptor sees its other end.",
    (
        Field("netns", "u64", doc="cookie of the network namespace"),
        Field("addr16", "u8", 16),
        Field("port_be", "u16"),
        Field("pad", "u8", 6),
    ),
)
PEER = Record(
    "km_peer",
    "Who that is, and what was asked for.",
    (
        Field("client", "u64", doc="socket cookie"),
        Field("routing", "u64"),
        Field("addr16", "u8", 16, doc="what connect() named"),
        Field("port_be", "u16"),
        Field("pad", "u8", 6),
    ),
)
STREAM = Record(
    "km_stream",
    "A client's connection, by socket cookie (u64). Written by programs only.",
    (
        Field("sent", "u64", doc="bytes that went to the relay"),
        Field("received", "u64", doc="bytes that came from the relay"),
        Field("upstream", "u64", doc="cookie of the upstream connection with an exchange in flight; 0 for none"),
        Field("exchanges", "u64", doc="that the kernel carried to their ends"),
        Field("requests", "u64", doc="that the kernel began"),
        Field("handovers", "u64"),
        Field("handover", "u32", doc="KM_H_* of the last"),
        Field("is_relayed", "u32", doc="what comes is the relay's until it grants"),
        Field("bound", "u64", doc="cookie of the upstream connection that was used last; 0 for none"),
        Field("cluster", "u64", doc="its cluster"),
        Field("expected", "u64", doc="TCP's number of the next byte from the relay, of 32 bits"),
        Field("is_torn", "u64", doc="bytes from the relay are lost to it"),
    ),
)
GRANT = Record(
    "km_grant",
    "The relay's leave to go on in the kernel, by the client's cookie (u64): where both counts are the stream's, the "
    "next byte begins a request and all answers were received. Written by the relay only.",
    (
        Field("sent", "u64"),
        Field("received", "u64"),
        Field("ended", "u64", doc="the upstream connection whose exchange the relay ended"),
    ),
)
BOUND_KEY = Record(
    "km_bound_key",
    "A client's connection and a cluster; leads to the upstream connection (u64 cookie) bound to them.",
    (Field("client", "u64"), Field("cluster", "u64")),
)
POOL_KEY = Record(
    "km_pool_key",
    "Leads to a queue of cookies of upstream connections that are free.",
    (Field("netns", "u64"), Field("cluster", "u64")),
)
EXCHANGE = Record(
    "km_exchange",
    "What an upstream connection is doing, by its cookie (u64), from when it is bound until it is returned: how an "
    "element of km_upstream begins. Written by programs only.",
    (
        Field("client", "u64", doc="cookie of the client that it is bound to"),
        Field("cluster", "u64"),
        Field("netns", "u64"),
        Field("answers", "u64", doc="automaton"),
        Field("remaining", "u64", doc="as `phase` says"),
        Field("carried", "u64", doc="bytes of this answer that went to the client"),
        Field("bytes", "u64", doc="of all answers, likewise"),
        Field("state", "u32", doc="KM_N_*"),
        Field("phase", "u32", doc="KM_B_*: where the next skb begins"),
        Field("is_head", "u32", doc="the answer to HEAD has no body"),
        Field("is_partial", "u32", doc="the request ended behind the message that it began in"),
        Field("is_closing", "u32", doc="the request said Connection: close"),
        Field("is_ending", "u32", doc="the answer said Connection: close"),
        Field("told", "u32", doc="KM_V_* of what the relay must know of it; written before that is told"),
        Field("pad", "u32"),
    ),
)
EVENT = Record(
    "km_event",
    "What programs tell the relay.",
    (
        Field("kind", "u32", doc="KM_V_*"),
        Field("detail", "u32", doc="as the kind says"),
        Field("client", "u64"),
        Field("upstream", "u64"),
        Field("cluster", "u64"),
        Field("netns", "u64"),
    ),
)

ALL = (
    FRONTEND_KEY, CELL, ENTRY, NODE, BACKEND, SOCK, UDP_FLOW_KEY, UDP_FLOW,
    PAGE_KEY, SLOT, PAGE, ROUTE, TEST, DECISION, DOMAIN, INDEX_ENTRY, INDEX, ROUTES,
    ACCEPTOR, PEER_KEY, PEER, STREAM, GRANT, BOUND_KEY, POOL_KEY, EXCHANGE, EVENT,
)  # fmt: skip
"""In dependency order, as the header declares them."""
