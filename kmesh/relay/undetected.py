"""Connections that may be no HTTP at all: what their first bytes say, and the others' bytes copied.

    begins with                       is           goes
    a request line of HTTP/1.1        HTTP/1.1     by routes, request by request
    one of another version, or none   HTTP/1.0     likewise where the listener says so; else as anything else
    the preface of HTTP/2             HTTP/2       as a whole, where all requests go to one cluster; else closed
    anything else                     other        as a whole, to the listener's other filter chain
    nothing, until the time is over   other        likewise, or closed, as the listener says

Envoy's parser takes more for a request line of HTTP/1.1 than the relay answers with anything but 400. Which chain a
connection gets is held against the real Envoy.

Source: RFC 9113 section 3.4; source/extensions/filters/listener/http_inspector of Envoy.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum

from kmesh.compiler.ir import Undetected
from kmesh.model.listener import Detection
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.channel import Channel
from kmesh.relay.framing import CloseFramer
from kmesh.relay.pump import Direction, Slot, peek_head, pump

__all__ = ["Begun", "copy_both_ways", "list_clusters", "recognise", "wait_for_first_bytes"]

_TARGET = rb"(?:[/*]|[A-Za-z][A-Za-z0-9+.-]*://)[^ \t\r\n\x80-\xff]*"
_AUTHORITY = rb"[^ \t\r\n\x80-\xff]+"
_VERSION = rb"(?:[ \t]+HTTP/([0-9]\.[0-9]))?[ \t]*\r?"
_REQUEST_LINE = re.compile(rb"(?:[A-Za-z-]+[ \t]+%s|CONNECT[ \t]+%s)%s" % (_TARGET, _AUTHORITY, _VERSION))
_UNFINISHED = re.compile(rb"[A-Za-z-]+(?:[ \t]+(?:[/*A-Za-z0-9\[][^\x80-\xff]*)?)?")
_LINE_BYTES = 8192
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Begun(Enum):
    HTTP10 = "HTTP/1.0"
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    OTHER = "other"
    SILENT = "silent"
    """Nothing that tells came in time."""


def recognise(received: bytes) -> Begun | None:
    """By a connection's first bytes, at least one; None: more are needed."""
    if _PREFACE.startswith(received[: len(_PREFACE)]):
        return Begun.HTTP2 if len(received) >= len(_PREFACE) else None
    line, end, _ = received[:_LINE_BYTES].partition(b"\n")
    if end:
        request = _REQUEST_LINE.fullmatch(line)
        if not request:
            return Begun.OTHER
        return Begun.HTTP1 if request[1] == b"1.1" else Begun.HTTP10
    return None if len(line) < _LINE_BYTES and _UNFINISHED.fullmatch(line) else Begun.OTHER


async def wait_for_first_bytes(client: Channel, detection: Detection) -> Begun | None:
    """None: the client ended its stream before anything could be told. Nothing is taken. Raises: Lost."""
    try:
        async with asyncio.timeout(detection.timeout_s):
            return await peek_head(client, None, recognise)
    except TimeoutError:
        return Begun.SILENT


def list_clusters(undetected: Undetected, begun: Begun | None) -> tuple[WeightedCluster, ...]:
    """Where a connection whose requests are not routed goes as a whole; none: it is closed."""
    match begun:
        case Begun.HTTP2:
            return undetected.http2
        case Begun.SILENT if not undetected.detection.continues:
            return ()
        case _:
            return undetected.clusters


async def copy_both_ways(client: Channel, upstream: Channel, slot: Slot | None) -> None:
    """Until both have ended; each end is passed on. Then `upstream` is closed: a reset would overtake what it has not
    sent yet. Raises: Lost, OSError."""
    if slot:  # a successor must know what it is before either has said anything; the request's word comes last
        for direction in (Direction.ANSWER, Direction.REQUEST):
            slot.note_state(direction, CloseFramer().state)
    ways = (
        asyncio.create_task(_copy(client, upstream, slot, Direction.REQUEST)),
        asyncio.create_task(_copy(upstream, client, slot, Direction.ANSWER)),
    )
    try:
        await asyncio.gather(*ways)
        upstream.close()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(source: Channel, sink: Channel, slot: Slot | None, direction: Direction) -> None:
    await pump(source, sink, CloseFramer(), slot, direction)
    sink.shut_down()
