"""Finite automata over bytes: what every string condition of a route compiles to. Pure; knows nothing of xDS.

regex     parse (syntax, escapes, bracket) -> nfa (utf8) -> subset -> minimise -> a Dfa
"""

from kmesh.compiler.automata.bounds import DEFAULT_BOUNDS, AutomatonTooLarge, Bounds
from kmesh.compiler.automata.dfa import DEAD, Dfa, Row
from kmesh.compiler.automata.regex import compile_regex
from kmesh.compiler.automata.syntax import RegexInvalid

__all__ = ["DEAD", "DEFAULT_BOUNDS", "AutomatonTooLarge", "Bounds", "Dfa", "RegexInvalid", "Row", "compile_regex"]
