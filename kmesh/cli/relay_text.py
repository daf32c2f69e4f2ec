"""The relay's part of a bridge's status, for people. Pure; see kmesh.cli.status_text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.cli.text import WIDTH, Paint, clip, format_age, format_table, wrap_field

__all__ = ["render_relay"]

_INDENT = 10
_SHOWN_POOLS = 10
_CLUSTER_WIDTH = WIDTH - 50


def render_relay(relay: pb.Relay | None, now: datetime, paint: Paint) -> Iterator[str]:
    """Nothing where the configuration has nothing for it to do."""
    if relay is None:
        return
    yield from _field("relay", _describe(relay, now))
    if relay.error:
        yield from _field("", relay.error)
    if relay.pid:
        exchanges = f"{relay.kernel_exchanges:,} by the kernel, {sum(c.count for c in relay.relayed):,} by the relay"
        yield from _field("exchanges", exchanges)
    for label, counts in (("relayed", relay.relayed), ("undialled", relay.dial_failures)):
        if counts:
            yield from _field(label, ", ".join(f"{item.reason} {item.count:,}" for item in counts))
    if relay.untold:
        yield from _field("untold", f"{_count(relay.untold, 'event')} found the buffer full, and were looked up")
    yield from _namespaces(relay.namespaces)
    yield from _pools(relay.pools, paint)


def _describe(relay: pb.Relay, now: datetime) -> str:
    if not relay.pid:
        return "does not run"
    started = f", started {format_age(relay.started_at, now)}" if relay.started_at else ""
    return f"process {relay.pid}{started}, {_count(relay.clients, 'client')}"


def _namespaces(namespaces: Sequence[pb.Namespace]) -> Iterator[str]:
    if not namespaces:
        return
    without = [str(namespace.cookie) for namespace in namespaces if not namespace.acceptors]
    text = _count(len(namespaces), "namespace")
    if without:
        text += f", without an acceptor: {', '.join(without)}"
    yield from _field("reached", text)


def _pools(pools: Sequence[pb.Pool], paint: Paint) -> Iterator[str]:
    if not pools:
        return
    rows = [("POOL OF", "NAMESPACE", "IDLE", "BOUND")]
    rows += [
        (clip(pool.cluster, _CLUSTER_WIDTH), str(pool.namespace), f"{pool.idle:,}", f"{pool.bound:,}")
        for pool in pools[:_SHOWN_POOLS]
    ]
    heading, *lines = format_table(rows, "<>>>")
    yield paint.heading(heading)
    yield from lines
    if len(pools) > _SHOWN_POOLS:
        yield f"and {len(pools) - _SHOWN_POOLS:,} more"


def _field(label: str, text: str) -> list[str]:
    return wrap_field(label, text, _INDENT)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)
