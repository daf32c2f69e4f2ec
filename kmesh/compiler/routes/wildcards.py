"""Wildcard domains as one automaton over Host: which of them matches, as the hash that leads to it in the index.

The longest suffix wildcard wins, then the longest prefix wildcard, then "*". A wildcard stands for one character at
least, so "*.x" does not match ".x": each wildcard is two patterns, what it matches and the one text too short for it.
Only "*" matches everything, an empty host too.

Source: envoy/config/route/v3/route_components.proto, VirtualHost.domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kmesh.compiler.automata import (
    Budget,
    Kind,
    Machine,
    Pattern,
    Text,
    compile_union,
    make_machine,
)
from kmesh.compiler.routes.domains import ANY
from kmesh.records.hash import hash_text

__all__ = ["build_wildcards"]


def build_wildcards(domains: Iterable[bytes], budget: Budget | None = None) -> Machine:
    """The output is the hash of the domain. `domains` are in lower case. Raises: BoundExceeded."""
    ranked = sorted(domains, key=_rank, reverse=True)
    patterns = [pattern for domain in ranked for pattern in _patterns(domain)]
    return make_machine(compile_union(patterns, budget), _choose(ranked))


def _rank(domain: bytes) -> tuple[bool, bool, int, bytes]:
    return domain != ANY, domain.startswith(b"*"), len(domain), domain


def _patterns(domain: bytes) -> Iterator[Pattern]:
    """What it matches, and what it only seems to match."""
    is_suffix = domain.startswith(b"*") and domain != ANY
    text = domain[1:] if is_suffix else domain[:-1]
    yield Text(kind=Kind.SUFFIX if is_suffix else Kind.PREFIX, text=text, ignore_case=True)
    yield Text(kind=Kind.EXACT, text=text, ignore_case=True)


def _choose(ranked: list[bytes]) -> Callable[[int], int]:
    def choose(vector: int) -> int:
        while vector:
            lowest = (vector & -vector).bit_length() - 1
            place, is_too_short = divmod(lowest, 2)
            vector &= vector - 1
            if not is_too_short and (ranked[place] == ANY or not vector & 1 << lowest + 1):
                return hash_text(ranked[place])
        return 0

    return choose
