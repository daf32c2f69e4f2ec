"""The automaton of wildcard domains chooses as Envoy's rules do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.automata import BoundExceeded, Bounds, Budget, pack_pages
from kmesh.compiler.interpreter.automaton import run_automaton
from kmesh.compiler.routes.wildcards import build_wildcards
from kmesh.compiler.semantics.virtual_host import find_virtual_host
from kmesh.model.route import RouteConfiguration, VirtualHost
from kmesh.records.hash import hash_text

texts = st.text(alphabet="ab.:", min_size=1, max_size=6)
wildcards = st.one_of(st.just("*"), texts.map(lambda text: "*" + text), texts.map(lambda text: text + "*"))


def choose(domains: list[str], host: bytes) -> int:
    packed = pack_pages(build_wildcards([domain.encode() for domain in domains]))
    return run_automaton(dict(packed.records), packed.automaton, host)


@given(st.lists(wildcards, min_size=1, max_size=8, unique=True), texts)
def test_the_wildcard_is_the_one_that_the_rules_choose(domains: list[str], host: str) -> None:
    hosts = tuple(VirtualHost(name=domain, domains=(domain,), routes=()) for domain in domains)
    found = find_virtual_host(RouteConfiguration(name="r", virtual_hosts=hosts), host.encode())
    want = hash_text(found.name.encode()) if found else 0
    assert choose(domains, host.upper().encode()) == want


@pytest.mark.parametrize(
    ("domains", "host", "want"),
    [
        (["*.x", "*"], b"a.x", "*.x"),
        (["*.x", "*"], b".x", "*"),
        (["*.x"], b".x", None),
        (["*.b.x", "*.x"], b"a.b.x", "*.b.x"),
        (["*.x", "a.*"], b"a.x", "*.x"),
        (["a.*", "a.b*"], b"a.bc", "a.b*"),
        (["a.b*", "a.*"], b"a.b", "a.*"),
    ],
    ids=lambda value: str(value),
)
def test_the_longest_suffix_comes_first_and_a_wildcard_is_not_empty(
    domains: list[str], host: bytes, want: str | None
) -> None:
    assert choose(domains, host) == (hash_text(want.encode()) if want else 0)


def test_more_wildcards_than_the_bound_are_refused_by_name() -> None:
    with pytest.raises(BoundExceeded, match="states"):
        build_wildcards([b"*.a-long-name.example"], Budget(Bounds(states=10)))
