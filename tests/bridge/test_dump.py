"""kmesh.bridge.dump and its elements: what is selected, and how each dump reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kmesh.bridge.dump import DumpFormat, DumpKind, cut, dump
from kmesh.bridge.elements import list_records, list_units
from kmesh.compiler import Compiler
from kmesh.errors import ConfigError
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import SocketAddress
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Action
from kmesh.xds.resources import listener as listeners
from tests.support.records import alias_node, backend, cluster, frontend
from tests.support.resources import encode, http_manager, listener, route_to
from tests.support.sample_bridge import SampleBridge

HALF = 2**31 - 1


def small_bridge() -> SampleBridge:
    """A listener that leads to a cluster of two endpoints; the kernel holds the same, in another order."""
    one, one_record = backend(SocketAddress.parse("10.1.0.1", 8080), cluster_name="reviews")
    two, two_record = backend(SocketAddress.parse("10.1.0.2", 8080), cluster_name="reviews")
    node, node_record = alias_node([(HALF, 1, Action.BACKEND, one), (HALF, 0, Action.BACKEND, two)])
    number, cell = cluster("reviews", Action.NODE, node)
    records = (one_record, two_record, node_record, cell)
    listener = frontend(SocketAddress.parse("10.0.0.1", 80), Action.CLUSTER, number)
    fragments = {("listener", "default/web"): Fragment.of((listener,)), ("cluster", "reviews"): Fragment.of(records)}
    image = MapImage(fragments)
    return SampleBridge(should=image, does=(listener, *reversed(records)))


def text(kind: DumpKind, **only: str) -> str:
    return "".join(dump(small_bridge(), kind, DumpFormat.TEXT, **only))


def elements(kind: DumpKind, **only: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads("".join(dump(small_bridge(), kind, DumpFormat.JSON, **only)))
    return found


def test_xds_text() -> None:
    want = """\
CDS reviews-v1
  version: 7
  @type: type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: reviews-v1
  connect_timeout: 0.250s
  typed_extension_protocol_options:
    acme.options: {@type: type.googleapis.com/acme.v1.Unheard, value_base64: CAE=}

"""
    assert text(DumpKind.XDS) == want


def test_model_text() -> None:
    want = """\
listener default/reviews
  name: default/reviews
  addresses: [10.0.0.1:80]
  filter_chains:
    - network:
        type: TcpProxy
        clusters:
          - {name: reviews-v1, weight: 90}
          - {name: reviews-v2, weight: 10}

cluster reviews-v1
  name: reviews-v1
  discovery: EDS

cluster reviews-v2
  name: reviews-v2
  discovery: EDS

assignment reviews-v1
  name: reviews-v1
  localities:
    - locality: {region: eu, zone: a}
      endpoints:
        - {address: 10.1.0.1:8080}
        - {address: [2001:db8::1]:8080, weight: 3, health: UNHEALTHY}

waiting cluster ratings
  for: [endpoints ratings]

"""
    assert text(DumpKind.MODEL) == want


def test_ir_text() -> None:
    want = """\
listener default/reviews
  10.0.0.1:80/tcp
    weighted
      90: cluster reviews-v1
      10: cluster reviews-v2

"""
    assert text(DumpKind.IR, of_type="listener") == want
    assert [item["name"] for item in elements(DumpKind.IR)] == ["default/reviews", "reviews-v1", "reviews-v2"]


def test_image_text() -> None:
    lines = text(DumpKind.IMAGE).splitlines()
    assert lines[0] == "km_frontend 10.0.0.1:80/tcp -> CLUSTER reviews"
    assert lines[1].startswith("km_cluster reviews ")
    assert lines[2].endswith(" ALIAS of 2")
    assert lines[3].startswith("   0  50.000% -> BACKEND 10.1.0.1:8080 ")
    assert [line.split()[2:] for line in lines[5:]] in (
        [["10.1.0.1:8080", "of", "reviews"], ["10.1.0.2:8080", "of", "reviews"]],
        [["10.1.0.2:8080", "of", "reviews"], ["10.1.0.1:8080", "of", "reviews"]],
    )


@pytest.mark.parametrize("form", DumpFormat)
def test_equal_maps_and_image_read_the_same(form: DumpFormat) -> None:
    bridge = small_bridge()
    got, want = ("".join(dump(bridge, kind, form)) for kind in (DumpKind.MAPS, DumpKind.IMAGE))
    assert got == want


@pytest.mark.parametrize("kind", DumpKind)
def test_json_is_an_array_with_an_element_to_a_line(kind: DumpKind) -> None:
    lines = "".join(dump(small_bridge(), kind, DumpFormat.JSON)).splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert [json.loads(line.rstrip(","))["type"] for line in lines[1:-1]] == [e["type"] for e in elements(kind)]


def test_json_of_the_model_has_defaults_too() -> None:
    got = elements(DumpKind.MODEL, of_type="cluster", name="v2")
    assert [(item["name"], item["value"]["lb_policy"]) for item in got] == [("reviews-v2", "ROUND_ROBIN")]


@pytest.mark.parametrize(
    "kind, only, want",
    [
        pytest.param(DumpKind.XDS, {"of_type": "cds"}, ["CDS"], id="a type in any case"),
        pytest.param(DumpKind.XDS, {"of_type": "LDS"}, [], id="a type without elements"),
        pytest.param(DumpKind.XDS, {"name": "v1"}, ["CDS"], id="part of a name"),
        pytest.param(DumpKind.XDS, {"name": "v3"}, [], id="no such name"),
        pytest.param(
            DumpKind.MODEL, {"name": "reviews-v1"}, ["cluster", "assignment"], id="every type that has the name"
        ),
        pytest.param(DumpKind.IR, {"of_type": "listener", "name": "web"}, [], id="right type, wrong name"),
        pytest.param(DumpKind.IMAGE, {"of_type": "km_node"}, ["km_node"], id="a map"),
        pytest.param(DumpKind.IMAGE, {"name": "default/web"}, ["km_frontend"], id="the listener compiled from"),
        pytest.param(DumpKind.MAPS, {"name": "default/web"}, ["km_frontend"], id="the same of the kernel's records"),
        pytest.param(DumpKind.IMAGE, {"name": "10.1.0.2"}, ["km_node", "km_backend"], id="an address in the text"),
    ],
)
def test_selection(kind: DumpKind, only: dict[str, str], want: list[str]) -> None:
    assert [element["type"] for element in elements(kind, **only)] == want


def test_unknown_type_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="dump model has no type 'vhost': choose one of listener, route_config"):
        text(DumpKind.MODEL, of_type="vhost")


@pytest.mark.parametrize(
    "pieces, want",
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["ab"], ["ab"], id="less than a chunk"),
        pytest.param(["a", "b", "c"], ["abc"], id="small pieces are joined"),
        pytest.param(["ab", "cd", "e"], ["abc", "de"], id="a piece over the edge"),
        pytest.param(["abcdefg"], ["abc", "def", "g"], id="a large piece is cut"),
    ],
)
def test_cut(pieces: list[str], want: list[str]) -> None:
    assert list(cut(pieces, 3)) == want


def test_decisions_name_what_they_look_at() -> None:
    match = {
        "prefix": "/",
        "headers": [{"name": "x-user", "string_match": {"exact": "a"}}],
        "query_parameters": [{"name": "debug", "present_match": True}],
    }
    routes = [route_to("c") | {"match": match}, route_to("d")]
    name, body = listeners.TYPE.decode(encode("LDS", listener(http_manager(routes))))
    compiled = Compiler().compile(Snapshot(listeners={name: body}))
    records = list_records(compiled.image.records(), compiled.image, compiled, has_units=False)
    (decision,) = (record.plain() for record in records if record.type == "km_decision")
    assert {test["field"] for test in decision["tests"]} == {"header x-user", "parameter debug"}


def test_virtual_hosts_are_units_of_the_ir() -> None:
    routes = [route_to("c") | {"match": {"prefix": "/a"}}, route_to("d")]
    name, body = listeners.TYPE.decode(encode("LDS", listener(http_manager(routes))))
    compiled = Compiler().compile(Snapshot(listeners={name: body}))
    host = next(unit for unit in list_units(compiled) if unit.type == "virtual host")
    first, *rest = host.lines()
    assert first.startswith(f"virtual host {host.name} of {name}")
    assert rest == ["  *", '  0: path prefix "/a" -> cluster c', "  1: always -> cluster d", ""]
