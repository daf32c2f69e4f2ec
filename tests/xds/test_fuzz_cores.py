"""Both cores under any sequence of responses, losses, subscriptions and waiting, against a naive model.

The model knows nothing of requests, timers' mechanics or caching: it says what is held after each response, and
what a consumer that only listens to updates must have in hand.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmesh.xds.config import Variant
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.update import Update
from tests.support.xds_kinds import CDS, EDS, KINDS, RDS, build_any
from tests.support.xds_peer import Peer

BOTH = pytest.mark.parametrize("variant", list(Variant), ids=lambda v: v.value)

_WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"

_NAME = st.sampled_from("abc")
_KIND = st.sampled_from(KINDS)
_VALUE = st.sampled_from(["", "1", "2", "bad", "bug"])
_PUSH = st.tuples(
    st.just("push"),
    _KIND,
    st.lists(st.tuples(_NAME, _VALUE), max_size=4),
    st.lists(st.sampled_from([b"\xff\xff", b""]), max_size=1),
    st.frozensets(_NAME, max_size=2),
)
_STEP = st.one_of(
    _PUSH,
    _PUSH,
    st.tuples(st.just("subscribe"), st.sampled_from([EDS, RDS]), st.frozensets(_NAME)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 7.0, 16.0])),
    st.tuples(st.just("take")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("open")),
)


class Harness:
    """Drives a core, and keeps what a server and a consumer would know."""

    def __init__(self, variant: Variant) -> None:
        self.peer = Peer(variant)
        self.core = self.peer.core
        self.is_open = False
        self.wanted: dict[str, frozenset[str]] = {EDS.name: frozenset(), RDS.name: frozenset()}
        self.server_names: dict[str, set[str]] = {}
        """By type, of this stream: what the server was told."""
        self.owed: list[tuple[str, bool]] = []
        """(nonce, whether a NACK) of answers still to be taken."""
        self.view: dict[str, dict[str, object]] = {kind.name: {} for kind in KINDS}
        """What the consumer has in hand."""
        self.missing: dict[str, set[str]] = {kind.name: set() for kind in KINDS}
        self.good_version: dict[str, str] = {}

    def do(self, step: tuple) -> None:
        match step:
            case "push", kind, resources, broken, removed:
                if self.is_open:
                    self.push(kind, resources, broken, removed)
            case "subscribe", kind, names:
                self.subscribe(kind, names)
            case "wait", seconds:
                for update in self.peer.pass_time(seconds):
                    self.consume(update)
            case ("take",):
                self.take()
            case ("lose",):
                self.core.lose_stream()
                self.is_open, self.owed, self.server_names = False, [], {}
            case ("open",):
                if not self.is_open:
                    self.core.open_stream()
                    self.is_open = True
                    for name in [name for name, wanted in self.wanted.items() if not wanted]:
                        self.good_version.pop(name, None)
                    self.take()
        self.check()

    def subscribe(self, kind: ResourceType, names: frozenset[str]) -> None:
        self.view[kind.name] = {n: v for n, v in self.view[kind.name].items() if n in names}
        self.missing[kind.name] &= names
        self.wanted[kind.name] = names
        self.consume(self.core.table.subscribe(kind.type_url, names))

    def push(
        self, kind: ResourceType, resources: list[tuple[str, str]], broken: list[bytes], removed: frozenset[str]
    ) -> None:
        is_delta = self.peer.is_delta
        removed = removed if is_delta else frozenset()
        bodies = [build_any(kind, name, value) for name, value in resources]
        bodies += [AnyMessage(type_url=kind.type_url, value=raw) for raw in broken]
        names = [name for name, _ in resources] + [""] * len(broken)
        wrappers = [
            discovery_pb2.Resource(name=n, version="v", resource=body) for n, body in zip(names, bodies, strict=True)
        ]
        before = {name: self.value_of(kind, name) for name in self.peer.held(kind)}
        response = self.peer.build_response(
            kind, f"v{self.peer._nonces}", [] if is_delta else bodies, wrappers if is_delta else [], removed
        )
        is_known = kind.name in self.server_names
        update = self.core.receive(response, self.peer.now)
        assert (update is not None) == is_known
        if update is None:
            return
        self.owed.append((response.nonce, bool(update.errors)))
        if not update.errors:
            self.good_version[kind.name] = update.version
        self.consume(update)
        self.check_against_model(kind, resources, broken, removed, before, update)

    def check_against_model(
        self,
        kind: ResourceType,
        resources: list[tuple[str, str]],
        broken: list[bytes],
        removed: frozenset[str],
        before: dict[str, object],
        update: Update,
    ) -> None:
        anonymous = [v for _, v in resources if v == "bug" and not self.peer.is_delta]
        named = [(n, v) for n, v in resources if v != "bug" or self.peer.is_delta]
        counts = Counter(name for name, _ in named)
        twice = {name for name, count in counts.items() if count > 1 or name in removed}
        bad = {n for n, v in named if v in ("bad", "bug")} | twice
        good = {n: v for n, v in named if n not in bad}
        has_nameless = bool(broken or anonymous)
        want = dict(before)
        for name, value in good.items():
            if self.is_known_name(kind, name):
                want[name] = value
        for name in removed - bad:
            want.pop(name, None)
        if not self.peer.is_delta and kind.is_full_state and not has_nameless:
            want = {name: value for name, value in want.items() if name in good or name in bad}
        got = {name: self.value_of(kind, name) for name in self.peer.held(kind)}
        assert got == want
        assert bool(update.errors) == (bool(bad) or has_nameless)

    def is_known_name(self, kind: ResourceType, name: str) -> bool:
        return kind.is_full_state or name in self.wanted[kind.name] | self.server_names.get(kind.name, set())

    def value_of(self, kind: ResourceType, name: str) -> object:
        return kind.decode(self.peer.held(kind)[name])[1]

    def consume(self, update: Update | None) -> None:
        if update is None:
            return
        kind = next(kind for kind in KINDS if kind.type_url == update.type_url)
        assert not update.changed.keys() & update.removed
        if not kind.is_full_state:
            assert update.changed.keys() | update.removed <= self.wanted[kind.name]
        self.view[kind.name].update(update.changed)
        self.missing[kind.name] -= update.changed.keys()
        for name in update.removed:
            self.view[kind.name].pop(name, None)
            self.missing[kind.name].add(name)

    def take(self) -> None:
        requests = self.core.take_requests(self.peer.now)
        if not self.is_open:
            assert requests == []
            return
        is_first = not self.server_names
        assert [request.HasField("node") for request in requests] == [
            is_first and index == 0 for index in range(len(requests))
        ]
        answers, rest = requests[: len(self.owed)], requests[len(self.owed) :]
        got = [(request.response_nonce, request.HasField("error_detail")) for request in answers]
        assert got == self.owed
        self.owed = []
        assert len({request.type_url for request in rest}) == len(rest), "one request for each type that changed"
        for request in answers:
            self.check_answer(request)
        for request in rest:
            assert not request.HasField("error_detail")
            self.tell_server(request)
        for name, wanted in self.wanted.items():
            assert self.server_names.get(name, set()) == wanted

    def check_answer(self, request: Any) -> None:
        if self.peer.is_delta:
            assert not request.resource_names_subscribe and not request.resource_names_unsubscribe
            assert not request.initial_resource_versions
            return
        name = next(kind.name for kind in KINDS if kind.type_url == request.type_url)
        assert set(request.resource_names) == self.server_names[name], "an answer changes no subscription"

    def tell_server(self, request: Any) -> None:
        kind = next(kind for kind in KINDS if kind.type_url == request.type_url)
        is_first = kind.name not in self.server_names
        known = self.server_names.setdefault(kind.name, set())
        if not self.peer.is_delta:
            self.server_names[kind.name] = set(request.resource_names)
            want = self.good_version.get(kind.name, "") if kind.is_full_state or request.resource_names else ""
            if not kind.is_full_state and not request.resource_names:
                self.good_version.pop(kind.name, None)
            assert request.version_info == want
            return
        assert not request.response_nonce
        added, dropped = set(request.resource_names_subscribe), set(request.resource_names_unsubscribe)
        assert not added & known and dropped <= known, "the difference, and no more"
        self.server_names[kind.name] = (known | added) - dropped
        held = set(self.peer.held(kind))
        assert set(request.initial_resource_versions) == (held if is_first else set())

    def check(self) -> None:
        for kind in KINDS:
            state = self.peer.state(kind)
            held = {name: self.value_of(kind, name) for name in self.peer.held(kind)}
            if not kind.is_full_state:
                held = {name: value for name, value in held.items() if name in self.wanted[kind.name]}
            assert self.view[kind.name] == held, "what the updates said is what is held"
            assert len(state.cache) == len(state.cache._name_of)

    def settle(self) -> None:
        """With a stream and 15 s, every name wanted is there, refused, or known to be missing."""
        if not self.is_open:
            self.do(("open",))
        self.do(("take",))
        self.do(("wait", 16.0))
        for kind in (EDS, RDS):
            known = self.view[kind.name].keys() | self.missing[kind.name] | self.peer.state(kind).rejected.keys()
            assert self.wanted[kind.name] <= known


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@BOTH
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, min_size=5, max_size=30))
def test_any_sequence(variant: Variant, steps: list[tuple]) -> None:
    harness = Harness(variant)
    harness.do(("open",))
    for step in steps:
        harness.do(step)
    harness.settle()


@BOTH
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), kind=_KIND, value=st.binary(max_size=60))
def test_any_bytes(variant: Variant, data: bytes, kind: ResourceType, value: bytes) -> None:
    """Whatever parses as a response at all is answered, once."""
    peer = Peer(variant)
    peer.open()
    peer.subscribe(EDS, "a")
    peer.push(CDS, {"a": "1"})
    message = discovery_pb2.DeltaDiscoveryResponse if peer.is_delta else discovery_pb2.DiscoveryResponse
    try:
        response = message.FromString(data)
    except DecodeError:
        response = message()
    body = AnyMessage(type_url=kind.type_url, value=value)
    if peer.is_delta:
        response.resources.add().resource.CopyFrom(body)
    else:
        response.resources.append(body)
        response.resources.append(AnyMessage(type_url=_WRAPPER, value=data))
    response.type_url = kind.type_url
    update = peer.push_response(response)
    assert (update is None) == (kind is RDS)
    assert len(peer.sent) == (0 if kind is RDS else 1)
    peer.pass_time(1e9)
