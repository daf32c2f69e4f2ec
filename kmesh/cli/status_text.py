"""A bridge's status for people: the verdict first, then the way of configuration from control plane to connection.

Pure: a message and the time in, text out. Fits 100 columns; what is cut short is whole in --json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.cli.relay_text import render_relay
from kmesh.cli.text import WIDTH, Paint, clip, format_age, format_duration, format_size, format_table, wrap_field

__all__ = ["render_status"]

_INDENT = 10
_SHOWN_WAITING = 3
_VERSION_WIDTH = 28
_NONCE_WIDTH = 20
_NACK_WIDTH = 3 * (WIDTH - _INDENT)


def render_status(status: pb.Status, *, now: datetime, is_coloured: bool = False) -> str:
    paint = Paint(is_coloured)
    sections = (
        _verdict(status.problems, paint),
        [*_bridge(status, now), *_stream(status.xds or pb.Xds(), now)],
        _types(status.xds or pb.Xds(), now, paint),
        [*_snapshot(status.snapshot or pb.Snapshot()), *_apply(status.apply or pb.Apply(), now)],
        _outcomes(status.outcomes),
        render_relay(status.relay, now, paint),
        _programs(status.programs, now, paint),
        _maps(status.maps, paint),
        _limitations(status.limitations, paint),
    )
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in map(list, sections) if lines)


def _verdict(problems: Sequence[str], paint: Paint) -> Iterator[str]:
    if not problems:
        yield paint.good("ok")
        return
    label = "degraded: "
    lines = [line for problem in problems for line in wrap_field("", problem, len(label))]
    yield paint.bad(label) + lines[0][len(label) :]
    yield from lines[1:]


def _bridge(status: pb.Status, now: datetime) -> Iterator[str]:
    bridge = status.bridge or pb.Version()
    facts = (
        bridge.instance,
        f"kmesh {bridge.kmesh}",
        f"process {bridge.pid}",
        f"started {format_age(bridge.started_at, now)}",
        f"Linux {bridge.kernel}",
    )
    yield from _field("instance", ", ".join(facts))
    yield from _field("cgroups", ", ".join(status.cgroups) or "none enrolled")


def _stream(xds: pb.Xds, now: datetime) -> Iterator[str]:
    yield from _field("xds", f"{xds.server}, {xds.variant}, {_stream_state(xds, now)}")
    if xds.last_error:
        yield from _field("", f"last error {format_age(xds.last_error_at, now)}: {xds.last_error}")


def _stream_state(xds: pb.Xds, now: datetime) -> str:
    match xds.state:
        case pb.StreamState.CONNECTED:
            return f"connected {format_age(xds.connected_since, now)}"
        case pb.StreamState.BACKING_OFF if xds.next_attempt_at:
            wait = format_duration((xds.next_attempt_at - now).total_seconds())
            return f"not connected after {_count(xds.attempts, 'attempt')}, next in {wait}"
        case _:
            return f"connecting, attempt {xds.attempts}"


def _types(xds: pb.Xds, now: datetime, paint: Paint) -> Iterator[str]:
    if not xds.types:
        return
    rows = [("TYPE", "RESOURCES", "VERSION", "NONCE", "LAST NACK")]
    for item in xds.types:
        nack = format_age(item.last_nack_at, now) if item.last_nack else "none"
        version, nonce = clip(item.version or "-", _VERSION_WIDTH), clip(item.nonce or "-", _NONCE_WIDTH)
        rows.append((item.name, f"{item.resources:,}", version, nonce, nack + ", stands" * _is_rejected(item)))
    heading, *lines = format_table(rows, "<><<<")
    yield paint.heading(heading)
    for item, line in zip(xds.types, lines, strict=True):
        yield paint.bad(line) if _is_rejected(item) else line
        if item.last_nack:
            yield from wrap_field("", clip(item.last_nack, _NACK_WIDTH), 6)


def _is_rejected(item: pb.ResourceType) -> bool:
    return item.is_rejected or bool(item.rejected)


def _snapshot(snapshot: pb.Snapshot) -> Iterator[str]:
    counts = (
        _count(snapshot.listeners, "listener"),
        _count(snapshot.route_configs, "route configuration"),
        _count(snapshot.clusters, "cluster"),
        _count(snapshot.endpoints, "endpoint"),
    )
    yield from _field("serving", ", ".join(counts))
    label = "waiting"
    for item in snapshot.waiting[:_SHOWN_WAITING]:
        yield from _field(label, clip(f"{item.resource} for {', '.join(item.missing)}", WIDTH - _INDENT))
        label = ""
    if len(snapshot.waiting) > _SHOWN_WAITING:
        yield from _field("", f"and {len(snapshot.waiting) - _SHOWN_WAITING:,} more")


def _apply(apply: pb.Apply, now: datetime) -> Iterator[str]:
    if apply.at:
        cost = f"{_count(apply.operations, 'map operation')} in {format_duration(apply.duration_s)}"
        yield from _field("image", f"{apply.image_digest}, applied {format_age(apply.at, now)}, {cost}")
    else:
        yield from _field("image", "none applied yet")
    if apply.error:
        yield from _field("refused", apply.error)


def _outcomes(outcomes: Sequence[pb.Outcome]) -> Iterator[str]:
    for label, is_refusal in (("outcomes", False), ("refusals", True)):
        counts = [f"{item.reason} {item.count:,}" for item in outcomes if item.is_refusal == is_refusal]
        yield from _field(label, ", ".join(counts) or "none")


def _programs(programs: Sequence[pb.Program], now: datetime, paint: Paint) -> Iterator[str]:
    rows = [("PROGRAM", "ID", "TAG", "INSTRUCTIONS", "LOADED", "CGROUPS")]
    rows += [
        (
            item.name,
            str(item.id),
            item.tag,
            f"{item.verified_instructions:,}",
            format_age(item.loaded_at, now),
            ", ".join(item.cgroups) or (f"by {item.runs_by}" if item.runs_by else "none"),
        )
        for item in programs
    ]
    yield from _table(rows, "<><>><", paint)


def _maps(maps: Sequence[pb.Map], paint: Paint) -> Iterator[str]:
    rows = [("MAP", "USED", "MAX", "FULL", "SIZE")]
    rows += [
        (
            item.name,
            f"{item.used:,}",
            f"{item.max_entries:,}",
            f"{item.used / item.max_entries:.0%}" if item.max_entries else "-",
            format_size(item.bytes),
        )
        for item in maps
    ]
    yield from _table(rows, "<>>>>", paint)


def _limitations(limitations: Sequence[pb.Limitation], paint: Paint) -> Iterator[str]:
    """Grouped by what becomes of the connections; they come sorted that way."""
    if limitations:
        yield paint.heading("NOT SUPPORTED")
    for (effect, consequence), items in groupby(limitations, key=lambda item: (item.effect, item.consequence)):
        word = (effect.name or "").lower()
        label = paint.bad(word) if effect == pb.Effect.REFUSED else word
        yield f"{label}: {clip(consequence, WIDTH - len(word) - 2)}"
        for item in items:
            yield from wrap_field("", clip(item.feature, 2 * WIDTH), 2)
            yield f"    {_some_of(item.resources, WIDTH - 4)}"


def _some_of(names: Sequence[str], width: int) -> str:
    """The first names that fit, and how many more there are."""
    shown = ""
    for number, name in enumerate(names):
        longer = f"{shown}, {clip(name, width)}" if shown else clip(name, width // 2)
        rest = len(names) - number - 1
        if len(longer) + len(f" and {rest:,} more") * bool(rest) > width:
            return f"{shown} and {rest + 1:,} more"
        shown = longer
    return shown


def _table(rows: Sequence[Sequence[str]], alignments: str, paint: Paint) -> Iterator[str]:
    if len(rows) > 1:
        heading, *lines = format_table(rows, alignments)
        yield paint.heading(heading)
        yield from lines


def _field(label: str, text: str) -> Iterable[str]:
    return wrap_field(label, text, _INDENT)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)
