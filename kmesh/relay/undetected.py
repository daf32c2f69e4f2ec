"""Connections that may be no HTTP at all: what their first bytes say, and the others' bytes copied.

    begins with                       is           goes
    a request line of HTTP/1.1        HTTP/1.1     by routes, request by request
    the preface of HTTP/2             HTTP/2       as a whole, where all requests go to one cluster; else closed
    anything else                     other        as a whole, to the listener's other filter chain
    nothing, until the time is over   other        likewise, or closed, as the listener says

Source: RFC 9113 section 3.4; source/extensions/filters/listener/http_inspector of Envoy, which takes HTTP/1.0 for
another protocol where a chain asks for HTTP/1.1.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from kmesh.compiler.ir import Undetected
from kmesh.model.listener import Detection
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.channel import Channel
from kmesh.relay.framing import CloseFramer
from kmesh.relay.head import begins_request
from kmesh.relay.pump import Direction, Slot, peek_head, pump

__all__ = ["Begun", "copy_both_ways", "list_clusters", "recognise", "wait_for_first_bytes"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Begun(Enum):
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    OTHER = "other"
    SILENT = "silent"
    """Nothing that tells came in time."""


def recognise(received: bytes) -> Begun | None:
    """By a connection's first bytes, at least one; None: more are needed."""
    if _PREFACE.startswith(received[: len(_PREFACE)]):
        return Begun.HTTP2 if len(received) >= len(_PREFACE) else None
    begins = begins_request(received)
    if begins is None:
        return None
    return Begun.HTTP1 if begins else Begun.OTHER


async def wait_for_first_bytes(client: Channel, detection: Detection) -> Begun | None:
    """None: the client ended its stream before anything could be told. Nothing is taken. Raises: Lost."""
    try:
        async with asyncio.timeout(detection.timeout_s):
            return await peek_head(client, None, recognise)
    except TimeoutError:
        return Begun.SILENT


def list_clusters(undetected: Undetected, begun: Begun | None) -> tuple[WeightedCluster, ...]:
    """Where a connection that is not HTTP/1.1 goes as a whole; none: it is closed."""
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
