"""What is reported of routes by request: every feature that the kernel does not do, once for each holder."""

from __future__ import annotations

from kmesh.compiler.routes.reports import report_configuration, report_virtual_host
from kmesh.model.limitation import Effect
from kmesh.model.match import RouteMatch
from kmesh.model.route import ClusterAction, Feature, Redirect, Route, RouteConfiguration, VirtualHost
from kmesh.model.route_features import DEFAULT_RETRY, NO_TIMEOUT

TO_C = ClusterAction(cluster="c")


def asked(*names: str) -> tuple[Feature, ...]:
    return tuple(Feature(name=name, path=f"at.{name.rpartition('.')[2]}") for name in names)


def test_of_a_virtual_host_and_its_routes() -> None:
    host = VirtualHost(
        name="v",
        domains=("*",),
        features=asked("VirtualHost.cors"),
        routes=(
            Route(action=TO_C, features=asked("RouteAction.timeout", DEFAULT_RETRY, "RouteAction.retry_policy")),
            Route(action=Redirect(), features=asked("RouteAction.timeout")),
            Route(action=TO_C, match=RouteMatch(unsupported=("RouteMatch.filter_state",))),
        ),
    )
    got = list(report_virtual_host("r", host))
    assert {(report.kind, report.name) for report in got} == {("virtual host", "v of r")}
    assert [(report.feature, report.path, report.effect, report.consequence) for report in got] == [
        ("VirtualHost.cors", "at.cors", Effect.REFUSED, "its requests are refused: a waypoint would do this"),
        ("RouteAction.timeout", "at.timeout", Effect.RELAYED, "its requests are the relay's to route"),
        (
            DEFAULT_RETRY,
            "at.retry_policy, Istio's default",
            Effect.UNENFORCED,
            "its requests are routed as configured, without this",
        ),
        ("RouteAction.retry_policy", "at.retry_policy", Effect.REFUSED, "its requests are refused"),
        ("Route.redirect", "routes[1]", Effect.RELAYED, "its requests are the relay's to route"),
        ("RouteMatch.filter_state", "routes[2].match", Effect.REFUSED, "its requests are refused"),
    ]


def test_what_the_kernel_does_is_not_reported() -> None:
    routes = (Route(action=TO_C, features=asked(NO_TIMEOUT, "UpgradeConfig.enabled")),)
    assert list(report_virtual_host("r", VirtualHost(name="v", domains=("*",), routes=routes))) == []


def test_of_a_route_configuration() -> None:
    features = asked("RouteConfiguration.vhds")
    (got,) = report_configuration(RouteConfiguration(name="r", virtual_hosts=(), features=features))
    assert (got.kind, got.name, got.effect) == ("route configuration", "r", Effect.REFUSED)
