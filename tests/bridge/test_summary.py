"""kmesh.bridge.summary: counting what the bridge holds."""

from __future__ import annotations

from kmesh.bridge.summary import view_limitations, view_outcomes, view_snapshot
from kmesh.bridge.view import WaitingView
from kmesh.compiler.report import report_bound, report_limitations
from kmesh.model.limitation import Effect, Limitation
from kmesh.records.constants import Reason
from tests.support.sample_bridge import sample_snapshot


def test_snapshot_is_counted() -> None:
    got = view_snapshot(sample_snapshot())
    assert (got.listeners, got.route_configs, got.clusters, got.endpoints) == (1, 0, 2, 2)
    assert got.waiting == (WaitingView(resource="cluster ratings", missing=("endpoints ratings",)),)


def test_outcomes_leave_out_what_never_happened() -> None:
    got = view_outcomes({Reason.BROKEN: 1, Reason.BALANCED: 5, Reason.FLOW: 0})
    assert [(item.reason, item.is_refusal, item.count) for item in got] == [
        ("balanced", False, 5),
        ("broken", True, 1),
    ]


def test_limitations_are_grouped_by_effect_and_feature() -> None:
    def limit(feature: str, effect: Effect, path: str = "") -> Limitation:
        return Limitation(feature=feature, path=path, effect=effect)

    reports = (
        *report_limitations("cluster", "c", [limit("circuit_breakers", Effect.UNENFORCED)]),
        report_bound("r", "v", "states", 9, 8),
        *report_limitations("listener", "b", [limit("tls", Effect.REFUSED, "filter_chains[0]")]),
        *report_limitations("listener", "a", [limit("tls", Effect.REFUSED), limit("tls", Effect.REFUSED, "x")]),
        *report_limitations("listener", "a", [limit("http", Effect.REFUSED)]),
    )
    got = [(item.effect, item.feature, item.resources) for item in view_limitations(reports)]
    assert got == [
        (Effect.REFUSED, "http", ("listener a",)),
        (Effect.REFUSED, "tls", ("listener b", "listener a")),
        (Effect.RELAYED, "a matcher of 9 states or more (the limit is 8)", ("virtual host v of r",)),
        (Effect.UNENFORCED, "circuit_breakers", ("cluster c",)),
    ]
