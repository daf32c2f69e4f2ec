"""The real Envoy takes its configuration from this server, in both variants, and every change of it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import free_port, http_backend
from tests.support.envoy import ApiType, Envoy, ads_bootstrap, run_envoy, wait_until

ADDRESS = "127.18.0.1"
_TYPE = "type.googleapis.com/envoy."
_ADS = {"ads": {}, "resource_api_version": "V3"}


def make_cluster(name: str, connect_timeout: str = "1s") -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": connect_timeout,
        "eds_cluster_config": {"eds_config": _ADS},
    }


def make_assignment(name: str, port: int) -> dict[str, Any]:
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    return {
        "@type": f"{_TYPE}config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
    }


def make_listener(name: str, port: int, route: str) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": route, "config_source": _ADS},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"}}
        ],
    }
    return {
        "@type": f"{_TYPE}config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": ADDRESS, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def make_route(name: str, cluster: str) -> dict[str, Any]:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]
    return {
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    }


def write(directory: Path, *resources: dict[str, Any]) -> None:
    new = directory / ".new"
    new.write_text(json.dumps({"resources": resources}))
    new.replace(directory / "resources.json")


@contextmanager
def run_server(directory: Path, log: Path, port: int = 0) -> Iterator[int]:
    """The command of the manual, as its own process. Yields its port."""
    command = [sys.executable, "-m", "kmesh.xds.server", "--config-dir", directory, "--listen", f"127.0.0.1:{port}"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout
    try:
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert found, log.read_text()
        yield int(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://{ADDRESS}:{port}/", timeout=5) as response:
        return str(response.read(), "utf-8")


@contextmanager
def steady_requests(port: int) -> Iterator[list[int]]:
    """One after the other without a pause. Yields their statuses, growing."""
    statuses: list[int] = []
    is_over = threading.Event()

    def request() -> None:
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=5)
        while not is_over.is_set():
            connection.request("GET", "/")
            with connection.getresponse() as response:
                response.read()
                statuses.append(response.status)
        connection.close()

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        thread.join()


def answers(port: int, want: str) -> bool:
    try:
        return fetch(port) == want
    except OSError:
        return False


def active(envoy: Envoy, resource: str, *path: str) -> set[str]:
    """Names of the resources in one part of Envoy's dump."""
    names = set()
    for config in envoy.config_dump(resource):
        for key in path:
            config = config[key]
        names.add(config["name"])
    return names


def assert_accepted(envoy: Envoy, server_log: Path) -> None:
    stats = envoy.stats("(update_rejected|update_failure|warming_clusters|init_fetch_timeout)$")
    assert {name: value for name, value in stats.items() if value} == {}
    assert "NACK" not in server_log.read_text()


@pytest.mark.parametrize("api_type", ApiType, ids=["sotw", "delta"])
def test_envoy_takes_everything_and_every_change(api_type: ApiType, tmp_path: Path) -> None:
    directory, log = tmp_path / "config", tmp_path / "server.log"
    directory.mkdir()
    first, second = free_port(ADDRESS), free_port(ADDRESS)
    with http_backend("one") as one, http_backend("two") as two:
        write(
            directory,
            make_listener("l1", first, "r1"),
            make_route("r1", "a"),
            make_cluster("a"),
            make_cluster("b"),
            make_assignment("a", one),
            make_assignment("b", two),
        )
        with run_server(directory, log) as port, run_envoy(ads_bootstrap("127.0.0.1", port, api_type)) as envoy:
            wait_until(lambda: answers(first, "one"), 10, "the first answer")
            assert active(envoy, "dynamic_active_clusters", "cluster") == {"a", "b"}
            assert active(envoy, "dynamic_listeners", "active_state", "listener") == {"l1"}
            assert active(envoy, "dynamic_route_configs", "route_config") == {"r1"}
            assert envoy.endpoints()["a"] == [f"127.0.0.1:{one}"]
            assert_accepted(envoy, log)

            # Endpoints swapped; a cluster changed, which must warm anew though its endpoints stay.
            write(
                directory,
                make_listener("l1", first, "r1"),
                make_route("r1", "a"),
                make_cluster("a"),
                make_cluster("b", connect_timeout="2s"),
                make_assignment("a", two),
                make_assignment("b", two),
            )
            wait_until(lambda: answers(first, "two"), 10, "the other backend")
            wait_until(lambda: timeout_of(envoy, "b") == "2s", 3, "the changed cluster to be warm")
            assert_accepted(envoy, log)

            # A listener added, and the cluster that the route used replaced: no request fails on the way.
            with steady_requests(first) as statuses:
                write(
                    directory,
                    make_listener("l1", first, "r1"),
                    make_listener("l2", second, "r2"),
                    make_route("r1", "c"),
                    make_route("r2", "c"),
                    make_cluster("b", connect_timeout="2s"),
                    make_cluster("c"),
                    make_assignment("b", two),
                    make_assignment("c", one),
                )
                wait_until(lambda: answers(second, "one"), 10, "the new listener")
                wait_until(
                    lambda: active(envoy, "dynamic_active_clusters", "cluster") == {"b", "c"},
                    3,
                    "the old cluster to go",
                )
                assert fetch(first) == "one"
            assert set(statuses) == {200}
            assert_accepted(envoy, log)


def timeout_of(envoy: Envoy, cluster: str) -> str:
    found = {c["cluster"]["name"]: c["cluster"] for c in envoy.config_dump("dynamic_active_clusters")}
    return str(found[cluster]["connect_timeout"])


@pytest.mark.parametrize("api_type", ApiType, ids=["sotw", "delta"])
def test_what_envoy_refuses_is_logged_and_the_rest_stays(api_type: ApiType, tmp_path: Path) -> None:
    directory, log = tmp_path / "config", tmp_path / "server.log"
    directory.mkdir()
    first = free_port(ADDRESS)
    with http_backend("one") as one:
        good = [make_listener("l1", first, "r1"), make_route("r1", "a"), make_cluster("a"), make_assignment("a", one)]
        write(directory, *good)
        with run_server(directory, log) as port, run_envoy(ads_bootstrap("127.0.0.1", port, api_type)) as envoy:
            wait_until(lambda: answers(first, "one"), 10, "the first answer")
            write(directory, *good, {**make_cluster("bad"), "connect_timeout": "-1s"})
            wait_until(lambda: "NACK" in log.read_text(), 10, "the refusal")
            assert re.search(
                r"NACK: node 'test-envoy', Cluster, nonce '\d+': .*Expected positive duration", log.read_text()
            )
            assert fetch(first) == "one"
            write(directory, *good, make_cluster("bad"), make_assignment("bad", one))
            wait_until(
                lambda: active(envoy, "dynamic_active_clusters", "cluster") == {"a", "bad"}, 10, "the mended cluster"
            )
            assert log.read_text().count("NACK") == 1


@pytest.mark.parametrize("api_type", ApiType, ids=["sotw", "delta"])
def test_a_restarted_server_tells_envoy_what_changed_meanwhile(api_type: ApiType, tmp_path: Path) -> None:
    directory, log = tmp_path / "config", tmp_path / "server.log"
    directory.mkdir()
    first, port = free_port(ADDRESS), free_port()
    with http_backend("one") as one, http_backend("two") as two:
        listener, route = make_listener("l1", first, "r1"), make_route("r1", "a")
        gone = make_cluster("b"), make_assignment("b", one)
        write(directory, listener, route, make_cluster("a"), make_assignment("a", one), *gone)
        with run_envoy(ads_bootstrap("127.0.0.1", port, api_type)) as envoy:
            with run_server(directory, log, port):
                wait_until(lambda: answers(first, "one"), 10, "the first answer")
            write(directory, listener, route, make_cluster("a"), make_assignment("a", two))
            with run_server(directory, log, port):
                wait_until(lambda: fetch(first) == "two", 10, "the other backend")
                wait_until(lambda: active(envoy, "dynamic_active_clusters", "cluster") == {"a"}, 5, "b to go")
                assert "NACK" not in log.read_text()
