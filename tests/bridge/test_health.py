"""kmesh.bridge.health: what counts as wrong, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kmesh.bridge.health import find_problems
from kmesh.bridge.view import LimitationView, NamespaceView, RelayView, StatusView, WaitingView
from kmesh.model.limitation import Effect
from kmesh.xds.status import StreamState
from tests.support.sample_bridge import degraded_status, healthy_status

OK = healthy_status()


def limited(*effects: Effect) -> StatusView:
    views = (LimitationView(feature="f", effect=e, consequence="", resources=("listener a",)) for e in effects)
    return replace(OK, limitations=tuple(views))


@pytest.mark.parametrize(
    "status, want",
    [
        pytest.param(OK, [], id="healthy"),
        pytest.param(
            replace(OK, programs=()),
            ["no program is loaded, connections go where the application sends them"],
            id="no program",
        ),
        pytest.param(
            replace(OK, programs=(replace(OK.programs[0], cgroups=()),)),
            ["km_connect4 is not attached to /sys/fs/cgroup/kubepods.slice"],
            id="detached",
        ),
        pytest.param(
            replace(OK, apply=replace(OK.apply, error="map full")),
            ["the newest configuration is not applied: map full"],
            id="not applied",
        ),
        pytest.param(
            replace(OK, relay=RelayView(error="it ended")),
            ["the relay does not run, what the kernel does not carry waits for it: it ended"],
            id="no relay",
        ),
        pytest.param(
            replace(OK, relay=RelayView(pid=1, namespaces=(NamespaceView(cookie=1, acceptors=()),))),
            ["1 network namespace without an acceptor, HTTP connections from there are refused"],
            id="no acceptor",
        ),
        pytest.param(
            replace(OK, programs=(replace(OK.programs[0], cgroups=(), runs_by="km_clients"),)), [], id="of sockets"
        ),
        pytest.param(replace(OK, relay=None), [], id="nothing for a relay to do"),
        pytest.param(
            limited(Effect.REFUSED),
            ["connections or requests of 1 resource are refused as not supported"],
            id="refused feature",
        ),
        pytest.param(limited(Effect.UNENFORCED, Effect.APPROXIMATED, Effect.INACTIVE), [], id="milder limitations"),
        pytest.param(
            replace(OK, xds=replace(OK.xds, types=(replace(OK.xds.types[0], is_rejected=True),))),
            ["the latest LDS response is rejected"],
            id="response rejected as a whole",
        ),
        pytest.param(
            replace(OK, xds=replace(OK.xds, types=(replace(OK.xds.types[0], rejected=(("a", "no"),)),))),
            ["1 resource of LDS rejected, the last good version stays"],
            id="resource rejected",
        ),
        pytest.param(
            replace(OK, snapshot=replace(OK.snapshot, waiting=(WaitingView(resource="a", missing=("b",)),) * 2)),
            ["2 resources wait for others that have not arrived"],
            id="warming",
        ),
        pytest.param(
            replace(OK, xds=replace(OK.xds, state=StreamState.CONNECTING)),
            ["no control plane at istiod.istio-system:15012"],
            id="connecting",
        ),
        pytest.param(
            replace(OK, serves_last_good=True), ["serving the last good snapshot from disk"], id="last good snapshot"
        ),
    ],
)
def test_problems(status: StatusView, want: list[str]) -> None:
    assert list(find_problems(status)) == want


def test_what_harms_connections_comes_first() -> None:
    got = find_problems(degraded_status())
    assert len(got) == 9
    assert "is not attached" in got[0]
    assert got[-1] == "serving the last good snapshot from disk"
