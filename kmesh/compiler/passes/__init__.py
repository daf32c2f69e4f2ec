"""The passes, in order: each a pure `(Program) -> Program` in a file of its own.

A pass rewrites the choices it knows and leaves the others, so each may run on any part of a program.
"""

from __future__ import annotations

from collections.abc import Callable

from kmesh.compiler.ir import Program
from kmesh.compiler.passes.check_transports import check_transports
from kmesh.compiler.passes.connect_time_http import connect_time_http
from kmesh.compiler.passes.drop_overload import drop_overload
from kmesh.compiler.passes.expand_localities import expand_localities
from kmesh.compiler.passes.expand_priorities import expand_priorities
from kmesh.compiler.passes.find_families import find_families
from kmesh.compiler.passes.flatten_weights import flatten_weights
from kmesh.compiler.passes.lower_proxies import lower_proxies
from kmesh.compiler.passes.merge_outcomes import merge_outcomes
from kmesh.compiler.passes.pick_endpoints import pick_endpoints
from kmesh.compiler.passes.resolve_clusters import resolve_clusters
from kmesh.compiler.passes.select_chains import select_chains

__all__ = ["PASSES", "Pass", "run_passes"]

Pass = Callable[[Program], Program]

PASSES: tuple[Pass, ...] = (
    select_chains,
    lower_proxies,
    connect_time_http,
    merge_outcomes,
    resolve_clusters,
    drop_overload,
    expand_priorities,
    expand_localities,
    check_transports,
    find_families,
    pick_endpoints,
    flatten_weights,
)


def run_passes(program: Program) -> Program:
    """All of them."""
    for rewrite in PASSES:
        program = rewrite(program)
    return program
