"""Which filter chains a connection can get, going by its destination.

    10.0.0.1:443 chains a (server_names x.example) b (any); default d
 -> 10.0.0.1:443 one of a, b, undecided: server_names

Envoy matches one criterion after another and never goes back (source/common/listener_manager/
filter_chain_manager_impl.cc): destination port, then destination address, longest prefix first, then those that only
the connection's source or first bytes tell. The first two are settled here. Where the rest leaves a gap, that no
chain or only the default one is selected is an outcome too. Whether the rest is no more than "is it HTTP" is noted,
for user space can see that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kmesh.compiler.claims import specificity
from kmesh.compiler.ir import Chains, Choice, Filtered, Frontend, Http, OneOf, Outcome, Program, Refuse
from kmesh.model.listener import Detection, FilterChain, FilterChainMatch, SourceType
from kmesh.records.constants import Reason

__all__ = ["select_chains"]

_Values = tuple[object, ...]

_LATER: tuple[tuple[str, Callable[[FilterChainMatch], _Values]], ...] = (
    ("server_names", lambda match: match.server_names),
    ("transport_protocol", lambda match: (match.transport_protocol,) if match.transport_protocol else ()),
    ("application_protocols", lambda match: match.application_protocols),
    ("direct_source_prefix_ranges", lambda match: match.direct_source_prefix_ranges),
    ("source_type", lambda match: (match.source_type,) if match.source_type is not SourceType.ANY else ()),
    ("source_prefix_ranges", lambda match: match.source_prefix_ranges),
    ("source_ports", lambda match: match.source_ports),
)
"""Criteria that connect() does not know, in Envoy's order; no values means any."""


def select_chains(program: Program) -> Program:
    return replace(
        program,
        listeners=tuple(
            replace(unit, frontends=tuple(map(_select, unit.frontends))) for unit in program.listeners
        ),
    )


def _select(frontend: Frontend) -> Frontend:
    match frontend.choice:
        case Chains(chains=chains, default=default, detection=detection):
            choice = _possible(_match_destination(chains, frontend), default)
            if isinstance(choice, OneOf) and detection:
                choice = _find_http(choice, default, detection)
            return replace(frontend, choice=choice)
        case _:
            return frontend


def _match_destination(chains: tuple[FilterChain, ...], frontend: Frontend) -> list[FilterChain]:
    of_port = [chain for chain in chains if chain.match.destination_port == frontend.port]
    if not of_port or not frontend.port:
        of_port = [chain for chain in chains if chain.match.destination_port is None]
    covering = [(specificity(chain.match, frontend.addr16), chain) for chain in of_port]
    longest = max((bits for bits, _ in covering if bits is not None), default=None)
    return [chain for bits, chain in covering if bits is not None and bits == longest]


def _possible(chains: list[FilterChain], default: FilterChain | None) -> Choice:
    outcomes = [Outcome(chain.name or f"number {index}", Filtered(chain)) for index, chain in enumerate(chains)]
    if not _is_exhaustive(chains, 0):
        none = Outcome("none", Refuse(Reason.NO_ROUTE))
        outcomes.append(Outcome("default", Filtered(default)) if default else none)
    if len(outcomes) == 1:
        return outcomes[0].choice
    undecided = tuple(name for name, values in _LATER if any(values(chain.match) for chain in chains))
    return OneOf(outcomes=tuple(outcomes), undecided=undecided)


def _find_http(choice: OneOf, default: FilterChain | None, detection: Detection) -> OneOf:
    """With what tells its outcomes apart, where that is only whether a connection is HTTP in plaintext."""
    chains = [outcome.choice.chain for outcome in choice.outcomes if isinstance(outcome.choice, Filtered)]
    of_http = [chain for chain in chains if chain is not default and _takes_http(chain.match)]
    rest = [chain for chain in chains if chain not in of_http]
    if len(choice.outcomes) != 2 or len(of_http) != 1:
        return choice
    if not all(chain is default or _asks_for_nothing(chain.match) for chain in rest):
        return choice
    outcomes = sorted(choice.outcomes, key=lambda outcome: outcome.choice != Filtered(of_http[0]))
    protocols = of_http[0].match.application_protocols
    http = Http(
        chain=of_http[0],
        takes_http2="h2c" in protocols,
        takes_http10="http/1.0" in protocols,
        detection=detection,
    )
    return replace(choice, outcomes=tuple(outcomes), http=http)


def _takes_http(match: FilterChainMatch) -> bool:
    protocols = match.application_protocols
    return (
        match.transport_protocol in ("", "raw_buffer")
        and "http/1.1" in protocols
        and {"http/1.0", "http/1.1", "h2c"}.issuperset(protocols)
        and _asks_for_nothing(replace(match, transport_protocol="", application_protocols=()))
    )


def _asks_for_nothing(match: FilterChainMatch) -> bool:
    """That connect() does not know."""
    return not any(values(match) for _, values in _LATER)


def _is_exhaustive(chains: list[FilterChain], level: int) -> bool:
    """Whether every connection gets one of `chains`, which agree on all criteria before `level`."""
    if level == len(_LATER) or not chains:
        return bool(chains)
    values = _LATER[level][1]
    groups: dict[object, list[FilterChain]] = {}
    for chain in chains:
        for value in values(chain.match) or (None,):
            groups.setdefault(value, []).append(chain)
    return None in groups and all(_is_exhaustive(group, level + 1) for group in groups.values())
