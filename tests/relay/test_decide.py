"""What the relay decides, case by case; test_decide_against_envoy.py holds the bulk of it against the real Envoy."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from kmesh.compiler.ir import Routing
from kmesh.compiler.semantics import Request
from kmesh.model.route_features import ROUTE_FEATURES, Place
from kmesh.relay.configuration import ClusterOptions, Configuration
from kmesh.relay.decide import Decision, Refused, Reply, ToCluster, decide
from tests.support.resources import typed
from tests.support.route_oracle import Case, decode_case, write_request

ROUTING = 7
PORT = 80
CLUSTERS = {
    "c": ClusterOptions(id=11, connect_timeout_s=0.25),
    "d": ClusterOptions(id=12),
    "h2": ClusterOptions(id=13, is_http2_only=True),
}
GET = Request(headers=((b"Host", b"a"),))
REGEX = {"pattern": {"regex": "a"}, "substitution": "b"}
PER_FILTER = {"x": typed("envoy.extensions.filters.http.cors.v3.CorsPolicy")["typed_config"]}


def configure(*routes: dict[str, Any], host: dict[str, Any] | None = None, **more: Any) -> Configuration:
    hosts = [{"name": "v", "domains": ["a"], "routes": list(routes), **(host or {})}]
    manager = decode_case(Case(routes={"virtual_hosts": hosts, **more}, requests=()))
    assert manager.route_config
    routing = Routing(name="r", config=manager.route_config, normalization=manager.normalization)
    return Configuration(routings={ROUTING: routing}, clusters=CLUSTERS)


def to(cluster: str = "c", **action: Any) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **action}}


def ask(configuration: Configuration, request: Request = GET) -> Decision:
    return decide(configuration, ROUTING, request, PORT, lambda _below: 0)


def test_a_plain_route_changes_nothing() -> None:
    assert ask(configure(to())) == ToCluster(
        name="c", cluster_id=11, timeout_s=15.0, idle_timeout_s=None, connect_timeout_s=0.25, connect_retries=0
    )


def test_times_and_retries_are_the_routes() -> None:
    predicate = {"name": "envoy.retry_host_predicates.previous_hosts"}
    policy = {"retry_on": "connect-failure", "num_retries": 2, "retry_host_predicate": [predicate]}
    got = ask(configure(to("d", timeout="0s", idle_timeout="3s", retry_policy=policy)))
    assert got == ToCluster(
        name="d", cluster_id=12, timeout_s=None, idle_timeout_s=3.0, connect_timeout_s=5.0, connect_retries=2
    )


def test_weighted_clusters_are_drawn_for_each_request() -> None:
    weights = {"clusters": [{"name": "c", "weight": 1}, {"name": "d", "weight": 3}, {"name": "h2", "weight": 0}]}
    configuration = configure({"match": {"prefix": "/"}, "route": {"weighted_clusters": weights}})
    random = Random(1)
    decisions = [decide(configuration, ROUTING, GET, PORT, random.randrange) for _ in range(4000)]
    counts = Counter(decision.name for decision in decisions if isinstance(decision, ToCluster))
    assert counts.keys() == {"c", "d"}
    assert abs(counts["c"] - 1000) < 3 * (4000 * 0.25 * 0.75) ** 0.5


def test_a_runtime_fraction_is_drawn_for_each_request() -> None:
    half = {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 50}}}
    configuration = configure(to() | {"match": half}, to("d"))
    random = Random(1)
    decisions = [decide(configuration, ROUTING, GET, PORT, random.randrange) for _ in range(2000)]
    counts = Counter(decision.name for decision in decisions if isinstance(decision, ToCluster))
    assert abs(counts["c"] - 1000) < 3 * (2000 * 0.25) ** 0.5


def test_a_cluster_that_a_header_names() -> None:
    configuration = configure({"match": {"prefix": "/"}, "route": {"cluster_header": "X-C"}})
    named = Request(headers=((b"Host", b"a"), (b"x-c", b"d")))
    got = ask(configuration, named)
    assert isinstance(got, ToCluster)
    assert got.name == "d"
    assert ask(configuration) == Reply(status=503)


@pytest.mark.parametrize(
    ("route", "want"),
    [
        (to("missing"), Reply(status=503)),
        (to("missing", cluster_not_found_response_code="NOT_FOUND"), Reply(status=404)),
        (to("h2"), Refused(feature="HTTP/2 to cluster 'h2' whatever the client speaks")),
        ({"match": {"prefix": "/"}, "non_forwarding_action": {}}, Reply(status=503)),
        ({"match": {"prefix": "/x"}, "route": {"cluster": "c"}}, Reply(status=404)),
        (
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "text"}}},
            Reply(status=200, headers=((b"content-type", b"text/plain"),), body=b"text"),
        ),
        (
            {"match": {"prefix": "/"}, "redirect": {"https_redirect": True, "response_code": "FOUND"}},
            Reply(status=302, headers=((b"location", b"https://a/"),)),
        ),
        (to(prefix_rewrite="/two words"), Refused(feature="a rewrite to what is no path")),
    ],
)
def test_what_goes_to_no_cluster(route: dict[str, Any], want: Decision) -> None:
    assert ask(configure(route)) == want


@pytest.mark.parametrize(
    ("request_", "want"),
    [
        (Request(headers=((b"Host", b"b"),)), Reply(status=404)),
        (Request(headers=()), Reply(status=400, closes=True)),
        (
            Request(target=b"*", headers=((b"Host", b"a"),)),
            Reply(status=400, headers=((b"content-type", b"text/plain"),), body=b"Bad Request", closes=True),
        ),
        (Request(method=b"CONNECT", target=b"a:80", headers=((b"Host", b"a"),)), Reply(status=404, closes=True)),
    ],
)
def test_requests_without_a_route(request_: Request, want: Decision) -> None:
    assert ask(configure(to()), request_) == want


def test_a_routing_that_is_not_known_is_refused() -> None:
    assert ask(Configuration()) == Refused(feature="a listener that is gone")


def test_tls_is_asked_for() -> None:
    configuration = configure(to(), host={"require_tls": "ALL"})
    request = Request(target=b"/p?q", headers=((b"Host", b"a"),))
    assert ask(configuration, request) == Reply(status=301, headers=((b"location", b"https://a/p?q"),))


REFUSED = {
    "RouteAction.request_mirror_policies": {"request_mirror_policies": [{"cluster": "d"}]},
    "RouteAction.hash_policy": {"hash_policy": [{"header": {"header_name": "a"}}]},
    "RouteAction.retry_policy": {"retry_policy": {"retry_on": "5xx"}},
    "RouteAction.hedge_policy": {"hedge_policy": {"initial_requests": 1}},
    "RouteAction.auto_host_rewrite": {"auto_host_rewrite": True},
    "RouteAction.host_rewrite": {"host_rewrite": "%PROTOCOL%"},
    "RouteAction.cors": {"cors": {}},
    "RouteAction.metadata_match": {"metadata_match": {}},
    "MaxStreamDuration.max_stream_duration": {"max_stream_duration": {"max_stream_duration": "1s"}},
}


@pytest.mark.parametrize("feature", REFUSED)
def test_what_nothing_does_is_refused_by_name(feature: str) -> None:
    assert ask(configure(to(**REFUSED[feature]))) == Refused(feature=feature)


@pytest.mark.parametrize(
    ("configuration", "feature"),
    [
        (configure(to(), host={"cors": {}}), "VirtualHost.cors"),
        (configure(to(), host={"require_tls": "EXTERNAL_ONLY"}), "VirtualHost.require_tls of EXTERNAL_ONLY"),
        (configure(to(), internal_only_headers=["x"]), "RouteConfiguration.internal_only_headers"),
        (configure(to() | {"typed_per_filter_config": PER_FILTER}), "Route.typed_per_filter_config"),
        (
            configure({"match": {"prefix": "/", "headers": [{"name": "x-request-id"}]}, "route": {"cluster": "c"}}),
            "RouteMatch.headers on what a proxy sets",
        ),
    ],
)
def test_so_is_what_its_holders_and_conditions_ask_for(configuration: Configuration, feature: str) -> None:
    assert ask(configuration) == Refused(feature=feature)


def test_every_feature_of_the_relay_is_one_that_it_does() -> None:
    """Each of these has a case here or in test_decide_against_envoy.py; a new one must get one."""
    headers = ["request_headers_to_add", "request_headers_to_remove", "response_headers_to_add"]
    headers.append("response_headers_to_remove")
    holders = ["ClusterWeight", "Route", "VirtualHost", "RouteConfiguration"]
    done = {f"{holder}.{name}" for holder in holders for name in headers}
    done |= {f"RouteAction.{name}" for name in ("timeout", "idle_timeout", "cluster_header", "prefix_rewrite")}
    done |= {f"RouteAction.{name}" for name in ("regex_rewrite", "host_rewrite_literal", "host_rewrite_header")}
    done |= {f"RouteAction.{name}" for name in ("host_rewrite_path_regex", "append_x_forwarded_host")}
    done |= {"Route.redirect", "Route.direct_response", "Route.non_forwarding_action", "VirtualHost.require_tls"}
    done |= {"RedirectAction.regex_rewrite", "ClusterWeight.host_rewrite_literal"}
    assert {name for name, row in ROUTE_FEATURES.items() if row.place is Place.RELAY} == done


def test_a_rewritten_head_keeps_every_other_byte() -> None:
    got = ask(configure(to(prefix_rewrite="/new"), host={"domains": ["*"]}))
    assert isinstance(got, ToCluster)
    assert got.rewrite_request
    head = b"GET / HTTP/1.1\r\nX-One:1\r\nhOST: a\r\nx-TWO:  2 \r\n\r\n"
    assert got.rewrite_request(head) == (
        b"GET /new HTTP/1.1\r\nX-One:1\r\nhost: a\r\nx-TWO:  2 \r\nx-envoy-original-path: /\r\n\r\n"
    )


def test_an_absolute_target_goes_on_in_origin_form() -> None:
    request = Request(target=b"http://a/p", headers=((b"Host", b"other"),))
    got = ask(configure(to()), request)
    assert isinstance(got, ToCluster)
    assert got.rewrite_request
    assert got.rewrite_request(write_request(request)) == b"GET /p HTTP/1.1\r\nhost: a\r\n\r\n"


def test_only_the_answer_is_rewritten_where_only_that_is_asked_for() -> None:
    route = to() | {"response_headers_to_add": [{"header": {"key": "x-a", "value": "1"}}]}
    got = ask(configure(route))
    assert isinstance(got, ToCluster)
    assert got.rewrite_request is None
    assert got.rewrite_answer
    assert got.rewrite_answer(b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n") == (
        b"HTTP/1.1 204 No Content\r\nDate: x\r\nx-a: 1\r\n\r\n"
    )
