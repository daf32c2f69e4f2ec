"""Limits, actions, node kinds and reasons: numbers that C and Python share.

A number, once released, is never given another meaning: pinned maps and programs outlive processes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = ["BEHIND_OUTPUT", "DEAD_STATE", "EVENT_SHIFT", "LIMITS", "LINK_KIND_BITS", "Action", "AnswerState"]
__all__ += ["BodyPhase"]
__all__ += ["DecisionKind", "Delivery", "Family", "Field", "FieldFlag", "Handover", "HeadEvent", "LinkKind", "Mark"]
__all__ += ["NodeKind", "Reason", "RoutesFlag", "SlotFlag", "SockFlag", "StreamEvent"]

LIMITS = {
    "NODE_FANOUT": 64,
    # Steps on one path, each through a node or a cluster's cell: two nodes of weighted clusters, the cell, two of
    # drops, priorities and localities, and three of endpoints (64 * 64 * 64 of one locality).
    "TREE_DEPTH": 8,
    # A mutable cell is read again when its seal is broken, which takes an update landing between two loads.
    "SEAL_TRIES": 4,
    "UDP_FLOWS": 65536,
    "CURSOR_TICKETS": 4096,
    # Bytes of a request's head that the kernel reads; a longer one is the relay's.
    "HEAD_BYTES": 8192,
    # Fields of one head that some route of its listener looks at, counted with repetitions.
    "REQUEST_FIELDS": 24,
    # A page of an automaton with its element's overhead fits 4 KB, the allocator's size for it.
    "PAGE_SLOTS": 464,
    # Spaces and tabs behind a header's value; no one sends more.
    "BLANKS": 16,
    "DECISION_TESTS": 12,
    "DECISION_BITS": 64,
    # Decisions and chances on one path from a virtual host to its route.
    "DECISION_DEPTH": 16,
    "INDEX_FANOUT": 240,
    "INDEX_DEPTH": 4,
    # The longest Host that Kubernetes can make (63.63.svc.cluster.local:65535) is 151 bytes.
    "HOST_BYTES": 168,
    # Bodies that the kernel carries: longer ones need the back-pressure of two sockets, which redirection lacks.
    "REQUEST_BODY_BYTES": 65536,
    "ANSWER_BODY_BYTES": 1 << 20,
    # Of earlier answers that the client has not read: more is not put into its receive queue, which no window bounds.
    "UNREAD_BYTES": 1 << 20,
    # Pooled connections that a request tries before it is the relay's: those found dead are passed over.
    "POOL_TRIES": 4,
    "POOL_SIZE": 256,
    "STREAMS": 65536,
    "EVENT_BYTES": 1 << 20,
    # What the client's receive buffer is raised to, as far as net.core.rmem_max lets it.
    "RECEIVE_BYTES": 4 << 20,
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
    HANDOVER = 6
    """Of a route: the relay carries the request; `target` is the Handover."""
    ROUTES = 7
    """Of a routing cell: `target` is the id of a routes record."""


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
    ROUTED = 6
    """Requests are routed one by one: sent to the namespace's acceptor."""
    NO_ENDPOINT = 7
    """The cluster has no usable endpoint: refused."""
    NO_CLUSTER = 8
    """The configuration names a cluster that does not exist: refused."""
    UNSUPPORTED = 9
    """The configuration asks for what kmesh cannot honour yet (kmeshctl status names it): refused."""
    OVERLOAD_DROP = 10
    """A drop_overload share: refused."""
    NO_ROUTE = 11
    """No filter chain or route takes the connection: refused."""
    FAMILY = 12
    """The chosen endpoint has no address of a family that the call can be sent to: refused. An IPv4 socket reaches
    no IPv6 endpoint, and sendmsg() to an IPv6 address no IPv4 one."""
    BLACKHOLE = 13
    """The cluster is meant to have no endpoints (istiod's BlackHoleCluster): refused."""
    BROKEN = 14
    """A record was missing or its seal stayed broken: refused, never guessed."""
    NO_ACCEPTOR = 15
    """Requests are to be routed one by one, and the namespace has no acceptor of the relay: refused."""


class SockFlag(IntFlag):
    """Flags of the per-socket record. Rendered as KM_S_<NAME>."""

    OWN = 1
    """Belongs to kmesh: never rewritten."""
    REWRITTEN = 2
    """connect() was rewritten; the record holds the address asked for."""
    ROUTED = 4
    """To an acceptor: the record holds the routing unit too."""
    STREAM = 8
    """The connection is established and among the clients."""


class Family(IntFlag):
    """Which addresses a backend has. Rendered as KM_F_<NAME>."""

    V4 = 1
    V6 = 2


# Requests, one by one: docs/decisions/0008-request-matching.md.

EVENT_SHIFT = 24
"""The word of a transition is the next state in the low 24 bits, and what happens on the way above."""
DEAD_STATE = (1 << EVENT_SHIFT) - 1
"""Nothing that follows can be accepted."""
BEHIND_OUTPUT = 3
"""From a state's header to its transition by a byte of class 0: between them its output lies, where it has one."""


class SlotFlag(IntFlag):
    """First word of a slot of a page. Rendered as KM_T_<NAME>."""

    OUTPUT = 1
    """Of a state's header: two more slots hold its output, low word first."""
    ROW = 1 << 31
    """Of a transition; the other bits are the state that it leaves. No header and no output has this bit."""


class HeadEvent(IntEnum):
    """What the head automaton tells of the byte it reads, at `position`. Rendered as KM_E_<NAME>.

    `output` is that of the state which the byte leaves: the id of the field whose name was just read.
    """

    NONE = 0
    METHOD = 1
    """The space after the method: METHOD is everything before."""
    TARGET = 2
    """The first byte of the target."""
    PATH = 3
    """The question mark: PATH is the target up to here."""
    NAME = 4
    """The = or : after the name of a field that routes look at: its id is `output`; its value may start behind."""
    VALUE = 5
    """The first byte of the value of such a header. What follows needs no automaton up to the next control byte."""
    SKIP = 6
    """What follows needs no automaton up to the next control byte."""
    VALUE_END = 7
    """The byte behind a value: of a header without the spaces and tabs before it."""
    EMPTY = 8
    """The byte behind a value that is empty."""
    BARE = 9
    """The byte behind a query parameter that is a name and no more: its id is `output`, its value empty."""
    HEAD_END = 10
    """The last byte of the head."""
    MARK = 16
    """16 + n: note Mark 1 << n."""
    TARGET_END = 32
    """The space after the target, added to NONE, VALUE_END or BARE of its last parameter. TARGET is what was read
    since its first byte, and so is PATH where no question mark came."""
    FINAL = 64
    """Of other automata: the output of the state stays what it is whatever follows."""
    HANDOVER = 128
    """128 + n: Handover n, and nothing more is read."""


class Mark(IntFlag):
    """What a path holds that normalisation might change. Rendered as KM_M_<NAME>."""

    DOUBLE_SLASH = 1
    DOT = 2
    """A segment that begins with a dot."""
    PERCENT = 4
    BACKSLASH = 8
    PARAMETER = 16
    """A semicolon."""
    ESCAPABLE = 32
    """A byte that a canonical path has only percent-encoded."""


class Field(IntEnum):
    """Ids of the fields that every request has; other ids are digests of names. Rendered as KM_FIELD_<NAME>."""

    METHOD = 4
    PATH = 8
    """Without the query."""
    TARGET = 12
    """:path, with the query."""
    AUTHORITY = 16
    CONTENT_LENGTH = 20
    CONNECTION = 24
    TRANSFER_ENCODING = 28
    STATUS = 32
    """Of an answer."""


class FieldFlag(IntFlag):
    """Low bits of a field's id. Rendered as KM_FIELD_IS_<NAME>."""

    JOINED = 1
    """Envoy joins the values of a header that comes more than once; here that is the relay's to do."""
    PARAMETER = 2
    """A query parameter, of which only the first counts."""


class LinkKind(IntEnum):
    """LINK_KIND_BITS of a link, which is the key of the record it leads to; a link of 0 is no route. Rendered as
    KM_L_<NAME>."""

    ROUTE = 1
    DECISION = 2


LINK_KIND_BITS = 0b11
"""The bits of a link that are its LinkKind."""


class DecisionKind(IntEnum):
    """Rendered as KM_D_<NAME>."""

    SPLIT = 1
    """The output of the only test's automaton is the link to follow; where it is 0, `next` is."""
    TEST = 2
    """The outcomes of all tests are ANDed; the first bit set names the link to follow; where there is none, `next`
    is followed."""


class RoutesFlag(IntFlag):
    """Options of a routes record. Rendered as KM_RF_<NAME>."""

    IGNORE_PORT = 1
    """Virtual hosts are looked for without the port in Host."""
    STRIP_PORT = 2
    """Any port is cut off Host before everything else."""
    STRIP_MATCHING_PORT = 4
    """Likewise, the port that was connected to only."""
    STRIP_DOT = 8
    """A dot at the end of the host would be cut off: such requests are the relay's."""


class Handover(IntEnum):
    """Why a request is the relay's. Rendered as KM_H_<NAME>."""

    NONE = 0
    MALFORMED = 1
    """Not a head as the strict reader here wants it: the relay answers 400, or knows better."""
    INCOMPLETE = 2
    """The head does not end within the bytes at hand."""
    HEAD_SIZE = 3
    """It does not end within KM_MAX_HEAD_BYTES."""
    METHOD = 4
    """None of GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH and TRACE."""
    TARGET = 5
    """Not in origin form."""
    VERSION = 6
    """Not HTTP/1.1."""
    HOST = 7
    """None, several, an empty, odd or too long one."""
    NORMALIZE = 8
    """The path, or Host, is one that normalisation might change."""
    FIELDS = 9
    """More fields that routes look at than KM_MAX_REQUEST_FIELDS."""
    REPEATED = 10
    """A header that comes more than once where only one value can be decided on."""
    NO_VIRTUAL_HOST = 11
    NO_ROUTE = 12
    ACTION = 13
    """The route asks for what the relay does."""
    WAYPOINT = 14
    """The route asks for what a waypoint does."""
    REFUSED = 15
    """The route asks for what nothing does."""
    BOUND = 16
    """The virtual host's matcher is over a bound."""
    BROKEN = 17
    """A record was missing or unsound."""
    STEPS = 18
    """It takes more steps than programs may run: a head of hundreds of tabs, values of several kilobytes."""
    FRAMING = 19
    """Where the request ends, or what becomes of the connection, is the relay's to follow: Transfer-Encoding, Expect,
    Upgrade, an odd Content-Length or Connection, or a long body."""
    NO_CONNECTION = 20
    """No pooled connection to the cluster was free."""
    PIPELINED = 21
    """The next request begins in the same message."""
    UNREAD = 22
    """The client has not read its earlier answers: more than KM_MAX_UNREAD_BYTES of them lie in its receive queue."""


# Streams: docs/decisions/0009-streams.md.


class AnswerState(IntEnum):
    """What an upstream connection is doing, as its programs see it. Rendered as KM_N_<NAME>."""

    IDLE = 0
    """Bound, with no request in flight: the last exchange ended exactly where its framing says."""
    HEAD = 1
    """A request was sent; the head of an answer comes next."""
    BODY = 2
    """`remaining` bytes of the answer's body follow."""
    RELAYED = 3
    """The relay reads what comes: for ever."""
    DEAD = 4
    """Nothing is in flight and nothing may be: the upstream closed it, or said that it would."""
    CHUNKS = 5
    """A chunked body goes on, at `phase`."""


class BodyPhase(IntEnum):
    """Where in a body an answer stands. Rendered as KM_B_<NAME>."""

    LENGTH = 0
    """By Content-Length: `remaining` bytes follow."""
    SIZE = 1
    """The first digit of a chunk's size comes next."""
    DIGITS = 2
    """Or another digit; `remaining` is the size so far."""
    SIZE_END = 3
    """The LF behind the size, which is `remaining`."""
    DATA = 4
    """`remaining` bytes of a chunk, at least one."""
    DATA_CR = 5
    DATA_LF = 6
    """Behind a chunk's data."""
    TRAILER = 7
    """Behind the chunk of size 0: the CR of the last line, or a trailer."""
    LAST_LF = 8
    END = 9


class Delivery(IntEnum):
    """Whether what programs gave a client lies where it reads. Rendered as KM_Y_<NAME>."""

    GONE = 0
    """There is no such client."""
    WAITING = 1
    DONE = 2


class StreamEvent(IntEnum):
    """What programs tell the relay. Rendered as KM_V_<NAME>."""

    NONE = 0
    TAKEN = 1
    """A pooled connection was bound."""
    NEEDED = 2
    """A request found no pooled connection and went to the relay."""
    ANSWER = 3
    """The answer that comes on the upstream connection is the relay's to carry, from its first byte. `detail`: why, a
    Handover."""
    BREACH = 4
    """Bytes came that no request asked for, on a connection that is pooled (`client` is 0) or bound. It is among the
    unfit, and is to be reset."""
    CLIENT_GONE = 5
    """An answer found its client no more."""
    ENDED = 6
    """The exchange ended after the client's stream had gone on at the relay, which waits for that."""
    RETURNED = 7
    """The client closed and its bound connection goes back to the pool: told before it is there."""
    CLIENT_CLOSED = 8
    """The client's connection is gone, and so are its stream and grant; or (`client` is 0) a connection was told as
    RETURNED to a pool that was full. `upstream`, unless 0, is the relay's to close. `detail`: how many exchanges the
    kernel carried to their ends."""
    NO_ACCEPTOR = 9
    """connect() was refused: the namespace has no acceptor. `detail`: id of the process in the first PID namespace.
    Told once: its element of km_acceptor, without ports, is to be filled, or deleted so that it is told again."""
    ANSWER_REST = 10
    """An answer of which some was delivered is the relay's to carry on, from its connection's first unread byte,
    which stands where the exchange's `phase` and `remaining` say. `detail`: why, a Handover."""
    TORN = 11
    """Bytes could not be delivered and are gone: the connections that are named are to be reset."""
