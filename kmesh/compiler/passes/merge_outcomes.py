"""Filter chains that cannot be told apart at connect must lead to the same place; else the connection is refused.

    one of tls (cluster a), plain (cluster a), undecided: transport_protocol
 -> cluster a

    one of tls (cluster a), plain (cluster b), undecided: transport_protocol
 -> refuse unsupported
"""

from __future__ import annotations

from kmesh.compiler.ir import Choice, ListenerUnit, OneOf, Program, Refuse
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.model.limitation import Effect
from kmesh.records.constants import Reason

__all__ = ["merge_outcomes"]


def merge_outcomes(program: Program) -> Program:
    return rewrite_listeners(program, _merge)


def _merge(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    if not isinstance(choice, OneOf):
        return choice
    first, *others = choice.outcomes
    for other in others:
        if other.choice != first.choice:
            found.append(
                Report(
                    kind="listener",
                    name=unit.name,
                    feature="filter_chain_match on " + (", ".join(choice.undecided) or "nothing that differs"),
                    path="filter_chains",
                    effect=Effect.REFUSED,
                    consequence=f"filter chains {first.chain!r} and {other.chain!r} lead to different places and "
                    "connect() cannot tell them apart: connections that could get either are refused",
                )
            )
            return Refuse(Reason.UNSUPPORTED)
    return first.choice
