from __future__ import annotations

from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from kmesh.xds.cache import Accepted, Cache
from kmesh.xds.decode import Batch, decode_resources, unwrap_any, unwrap_resource
from kmesh.xds.resource_type import ResourceType
from tests.support.xds_kinds import CDS, build_any
from tests.support.xds_peer import wrap_in_any

BROKEN = AnyMessage(type_url=CDS.type_url, value=b"\xff")
WRAPPER_URL = "type.googleapis.com/envoy.service.discovery.v3.Resource"


def decode_sotw(*items: AnyMessage, cache: Cache | None = None, kind: ResourceType = CDS) -> Batch:
    return decode_resources(kind, items, lambda item: unwrap_any(item, "v1"), cache or Cache(), current_version="v0")


def decode_delta(*items: Any, removed: tuple[str, ...] = ()) -> Batch:
    return decode_resources(CDS, items, lambda item: unwrap_resource(item, item.version), Cache(), removed=removed)


def reasons(batch: Batch) -> list[tuple[str, str]]:
    return [(error.name, error.reason) for error in batch.errors]


def test_wrapper_in_sotw_is_opened() -> None:
    wrapper = discovery_pb2.Resource(name="a", version="own", resource=build_any(CDS, "a", "1"))
    wrapper.ttl.nanos = 500_000_000
    got = decode_sotw(wrap_in_any(wrapper)).resources["a"]
    assert (got.name, got.version, got.model, got.ttl_s) == ("a", "own", "1", 0.5)


@pytest.mark.parametrize(
    ("items", "want"),
    [
        pytest.param(
            [build_any(CDS, "a", "1"), build_any(CDS, "a", "1")],
            [("a", "appears more than once in one response")],
            id="twice_the_same",
        ),
        pytest.param(
            [build_any(CDS, "a", "1"), build_any(CDS, "a", "2"), build_any(CDS, "a", "3")],
            [("a", "appears more than once in one response")],
            id="three_versions",
        ),
        pytest.param([build_any(CDS, "a", "1"), build_any(CDS, "a", "bad")], [("a", "is bad")], id="good_and_bad"),
        pytest.param(
            [wrap_in_any(discovery_pb2.Resource(name="b", resource=build_any(CDS, "a", "1")))],
            [("b", "the resource calls itself 'a'")],
            id="wrapper_of_another_name",
        ),
        pytest.param(
            [AnyMessage(type_url=WRAPPER_URL, value=b"\xff")],
            [("", "not a serialized Resource: Error parsing message")],
            id="broken_wrapper",
        ),
        pytest.param(
            [wrap_in_any(discovery_pb2.Resource(name="a"))],
            [("a", "is absent, and no such version is held")],
            id="no_body_and_nothing_held",
        ),
        pytest.param(
            [wrap_in_any(discovery_pb2.Resource(name="a", resource=BROKEN))],
            [("a", "not protobuf: Error parsing message")],
            id="wrapper_names_what_cannot_be_read",
        ),
    ],
)
def test_invalid(items: list[AnyMessage], want: list[tuple[str, str]]) -> None:
    batch = decode_sotw(*items)
    got = [(name, reason.split(" with type")[0]) for name, reason in reasons(batch)]
    assert got == want
    assert batch.resources == {}


def test_added_and_removed_at_once_is_neither() -> None:
    batch = decode_delta(discovery_pb2.Resource(name="a", resource=build_any(CDS, "a", "1")), removed=("a", "b"))
    assert reasons(batch) == [("a", "appears more than once in one response")]
    assert batch.resources == {}


def test_bytes_already_held_are_not_decoded_again() -> None:
    def refuse(raw: bytes) -> tuple[str, object]:
        raise AssertionError("decoded")

    cache, body = Cache(), build_any(CDS, "a", "1")
    cache.put("a", Accepted("v0", body.value))
    strict = ResourceType(name="CDS", type_url=CDS.type_url, is_full_state=True, decode=refuse)
    got = decode_sotw(body, cache=cache, kind=strict)
    assert (got.resources["a"].model, got.resources["a"].version, got.errors) == (None, "v1", ())


@pytest.mark.parametrize(
    "fault",
    [RecursionError(), MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), KeyError("x")],
    ids=lambda fault: type(fault).__name__,
)
def test_whatever_a_decoder_raises_is_one_invalid_resource(fault: Exception) -> None:
    def fail(raw: bytes) -> tuple[str, object]:
        raise fault

    kind = ResourceType(name="CDS", type_url=CDS.type_url, is_full_state=True, decode=fail)
    [got] = decode_sotw(build_any(CDS, "a"), kind=kind).errors
    assert got.reason.startswith(f"the decoder failed: {type(fault).__name__}")


def test_only_heartbeats() -> None:
    cache = Cache()
    cache.put("a", Accepted("v0", build_any(CDS, "a").value))
    beat = wrap_in_any(discovery_pb2.Resource(name="a", version="v0"))
    assert decode_sotw(beat, cache=cache).is_heartbeat
    assert not decode_sotw(beat, build_any(CDS, "b"), cache=cache).is_heartbeat
    assert not decode_sotw(cache=cache).is_heartbeat
