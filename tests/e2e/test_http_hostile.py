"""Hostile clients: nothing reaches a server that would not through Envoy.

HOSTILE_HEADS makes the random run longer; a failure prints its seed, which HOSTILE_SEED repeats.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any

import pytest

from tests.support.any_heads import Words, any_head, good_head
from tests.support.envoy import run_envoy
from tests.support.http_mesh import HttpMesh, carried, http_mesh, make_routes
from tests.support.http_payloads import PLAIN, SMUGGLING
from tests.support.http_raw_client import send_raw
from tests.support.http_recorder import Persuasion, Recorder, Seen
from tests.support.resources import endpoint, filter_chain, http_manager, socket_address, static_cluster
from tests.support.sandbox import Sandbox

SEED = int(os.environ.get("HOSTILE_SEED") or SystemRandom().randrange(2**32))
HEADS = int(os.environ.get("HOSTILE_HEADS") or 600)
TRIES = 3
"""A difference that stays is one: Envoy may drop a request when what follows it is bad, or may have sent it on."""
WORDS = Words(
    hosts=(b"x", b"x:80", b"b", b"[::1]", b"X", b"", b"x y"),
    paths=(b"/a/", b"/b/", b"/a/b/", b"/by-header/", b"/none/", b"/a/../b/", b"/a/%2e%2e/b/", b"/a//b/", b"/a/;b/"),
    queries=(b"", b"", b"?q=a", b"?/b/"),
    names=(b"x-to", b"x-a", b"accept", b"x-forwarded-for", b"Cookie"),
    values=(b"a", b"b", b"", b"a,b", b"\xc3\xa9"),
)


@dataclass(frozen=True)
class Both:
    """The mesh and Envoy, each before a server of the same persuasion."""

    mesh: HttpMesh
    ours: Recorder
    envoy: tuple[str, int]
    theirs: Recorder

    def send(self, *payloads: tuple[bytes, ...]) -> tuple[Counter[Seen], Counter[Seen]]:
        """What reached the one and the other."""
        host, _, port = str(self.mesh.vip).rpartition(":")
        send_raw(self.mesh.sandbox, (host, int(port)), payloads)
        send_raw(self.mesh.sandbox, self.envoy, payloads, enrolled=False)
        return self.ours.take(), self.theirs.take()


@pytest.fixture(scope="module", params=Persuasion, ids=lambda persuasion: persuasion.name)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        ours, theirs = (stack.enter_context(Recorder(request.param)) for _ in range(2))
        clusters = dict.fromkeys("ab", ours.address)
        mesh = stack.enter_context(http_mesh(sandbox, clusters, pool_size=64))
        envoy = stack.enter_context(envoy_before(dict.fromkeys("ab", theirs.address)))
        yield Both(mesh, ours, envoy, theirs)


@contextmanager
def envoy_before(clusters: Mapping[str, tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The address of an Envoy with the routes of the mesh."""
    manager = http_manager(
        route_config={"name": "r", "validate_clusters": False, **make_routes(*clusters)},
        upgrade_configs=[{"upgrade_type": "websocket"}],  # which the relay does without being told
        common_http_protocol_options={"max_headers_count": 8000},  # the kernel bounds a head's bytes, not its lines
    )
    front: dict[str, Any] = {
        "name": "front",
        "address": socket_address("127.0.0.1", 0),
        "filter_chains": [filter_chain(manager)],
    }
    backends = [static_cluster(endpoint(*address), name=name) for name, address in clusters.items()]
    with run_envoy({"static_resources": {"listeners": [front], "clusters": backends}}) as envoy:
        (line,) = envoy.get("/listeners").splitlines()
        yield "127.0.0.1", int(line.rpartition(":")[2])


# Clients


def test_what_is_read_in_two_ways(both: Both) -> None:
    """None of it is the kernel's, and what the relay lets through Envoy does, too."""
    payloads = {name: mark(payload, number) for number, (name, payload) in enumerate(SMUGGLING.items())}
    with carried(both.mesh) as exchanges:
        assert_envoys(both, [(payload,) for payload in payloads.values()])
    assert exchanges.found.kernel == len(PLAIN)


def mark(payload: bytes, number: int) -> bytes:
    return payload.replace(b"/a/x", b"/a/m%dm/" % number).replace(b"/a/evil", b"/a/m%dm/evil" % number)


def test_random_heads(both: Both) -> None:
    random = Random(SEED)
    payloads = [make_payload(random, number) for number in range(HEADS)]
    with carried(both.mesh) as exchanges:
        assert_envoys(both, payloads)
    assert exchanges.found.kernel > HEADS // 4, "too few get through to say much"


def assert_envoys(both: Both, payloads: list[tuple[bytes, ...]]) -> None:
    """No request reached the server that would not through Envoy. Each payload is marked in its path."""
    ours, theirs = both.send(*payloads)
    for seen in ours - theirs:
        suspects = [payload for payload in payloads if mark_of(seen) in b"".join(payload)]
        tries = [both.send(*suspects) for _ in range(TRIES)]
        assert any(not again - envoys for again, envoys in tries), f"{SEED=} {suspects}: {seen} is not Envoy's"


def make_payload(random: Random, number: int) -> tuple[bytes, ...]:
    """A head, or more, with a mark in its path; whole, or in two parts."""
    head = random.choice((any_head, good_head, good_head))(random, WORDS).replace(b" /", b" /m%dm" % number, 1)
    head = head.replace(b"/m%dm" % number, b"/a/m%dm/" % number if random.random() < 0.5 else b"/b/m%dm/" % number, 1)
    at = random.randrange(len(head) + 1)
    return (head,) if random.random() < 0.7 else (head[:at], head[at:])


def mark_of(seen: Seen) -> bytes:
    parts = [part for part in seen.target.split(b"/") if part.startswith(b"m") and part.endswith(b"m")]
    return b"/" + parts[0] + b"/" if parts else seen.target
