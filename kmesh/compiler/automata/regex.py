"""A regex, in RE2's syntax, to the smallest automaton that matches what RE2::FullMatch does."""

from __future__ import annotations

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.dfa import Dfa
from kmesh.compiler.automata.minimise import minimise
from kmesh.compiler.automata.nfa import Nfa
from kmesh.compiler.automata.subset import determinise
from kmesh.regex import parse_regex

__all__ = ["compile_regex"]


def compile_regex(pattern: str, budget: Budget | None = None, *, ignore_case: bool = False) -> Dfa:
    """Raises: RegexInvalid, a ValueError, where RE2 refuses the pattern; Unsupported; BoundExceeded."""
    budget = budget or Budget()
    budget.spend(len(pattern))
    regex = parse_regex(pattern, ignore_case=ignore_case)
    return minimise(determinise(Nfa(regex, budget), budget), budget)
