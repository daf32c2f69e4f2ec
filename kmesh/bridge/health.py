"""What is wrong with a bridge, in sentences an operator can act on. Pure: a StatusView in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.bridge.view import LimitationView, RelayView, SnapshotView, StatusView
from kmesh.model.limitation import Effect
from kmesh.xds.status import AdsStatus, StreamState

__all__ = ["find_problems"]


def find_problems(status: StatusView) -> tuple[str, ...]:
    """The most serious first; empty when all is well.

    Serious is what harms connections now, then what will once the configuration changes again.
    """
    return (
        *_unattached(status),
        *_unapplied(status),
        *_relay(status.relay),
        *_refused(status.limitations),
        *_rejected(status.xds),
        *_waiting(status.snapshot),
        *_disconnected(status),
    )


def _unattached(status: StatusView) -> Iterator[str]:
    if not status.programs:
        yield "no program is loaded, connections go where the application sends them"
    for program in status.programs:
        missing = [path for path in status.cgroups if path not in program.cgroups]
        if missing and not program.runs_by:
            yield f"{program.name} is not attached to {', '.join(missing)}"


def _unapplied(status: StatusView) -> Iterator[str]:
    if status.apply.error:
        yield f"the newest configuration is not applied: {status.apply.error}"


def _relay(relay: RelayView | None) -> Iterator[str]:
    if relay is None:
        return
    if relay.error or not relay.pid:
        why = f": {relay.error}" if relay.error else ""
        verb = "answer" if relay.pid else "run"
        yield f"the relay does not {verb}, what the kernel does not carry waits for it{why}"
    without = sum(not namespace.acceptors for namespace in relay.namespaces)
    if without:
        yield f"{_count(without, 'network namespace')} without an acceptor, HTTP connections from there are refused"


def _refused(limitations: tuple[LimitationView, ...]) -> Iterator[str]:
    resources = {name for item in limitations if item.effect is Effect.REFUSED for name in item.resources}
    if resources:
        yield f"connections or requests of {_count(len(resources), 'resource')} are refused as not supported"


def _rejected(xds: AdsStatus) -> Iterator[str]:
    for item in xds.types:
        if item.rejected:
            yield f"{_count(len(item.rejected), 'resource')} of {item.name} rejected, the last good version stays"
        elif item.is_rejected:
            yield f"the latest {item.name} response is rejected"


def _waiting(snapshot: SnapshotView) -> Iterator[str]:
    if snapshot.waiting:
        verb = "waits" if len(snapshot.waiting) == 1 else "wait"
        yield f"{_count(len(snapshot.waiting), 'resource')} {verb} for others that have not arrived"


def _disconnected(status: StatusView) -> Iterator[str]:
    if status.xds.state is not StreamState.CONNECTED:
        yield f"no control plane at {status.xds.server}"
    if status.serves_last_good:
        yield "serving the last good snapshot from disk"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
