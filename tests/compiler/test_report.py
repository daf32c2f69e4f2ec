"""kmesh.compiler.report: what a user is told of a resource."""

from __future__ import annotations

from kmesh.compiler.report import Report, has_refused, report_bound, report_limitations
from kmesh.model.limitation import Effect, Limitation

REFUSED = Limitation(feature="tls", path="filter_chains[0]", effect=Effect.REFUSED)
INACTIVE = Limitation(feature="bind_to_port", path="", effect=Effect.INACTIVE)


def test_every_effect_has_a_consequence() -> None:
    limitations = [Limitation(feature="f", path="", effect=effect) for effect in Effect]
    got = {report.consequence for report in report_limitations("cluster", "c", limitations)}
    assert len(got) == len(Effect)


def test_limitations_keep_their_place() -> None:
    got = report_limitations("listener", "l", (REFUSED,))
    assert [(item.kind, item.name, item.feature, item.path) for item in got] == [
        ("listener", "l", "tls", "filter_chains[0]")
    ]


def test_bound_says_by_how_much() -> None:
    got = report_bound("routes", "shop", "states", 20_000, 16_384)
    assert got == Report(
        kind="virtual host",
        name="shop of routes",
        feature="a matcher of 20,000 states or more (the limit is 16,384)",
        path="",
        effect=Effect.RELAYED,
        consequence="its requests are the relay's to route",
    )


def test_has_refused() -> None:
    assert has_refused((INACTIVE, REFUSED))
    assert not has_refused((INACTIVE,))
