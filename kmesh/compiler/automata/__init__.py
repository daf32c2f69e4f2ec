"""Finite automata over bytes: what every string condition of a route compiles to. Pure; knows nothing of xDS.

    Regex     kmesh.regex -> nfa (utf8) -> subset -> minimise --+
    Integers  integers -> nfa -> subset -> minimise ------------+
    Text      exact, prefix: trie ------------------------------+-> union (product) -> machine -> pages
              suffix: search -----------------------------------+
              contains: search -> minimise ---------------------+

`compile_union` makes one automaton of all patterns of a field, whose vector has bit i set when pattern i matches;
`make_machine` gives it the outputs that a run shall have, and `pack_pages` lays that out as the records that the
kernel reads. What would grow too large raises BoundExceeded before it costs much.
"""

from kmesh.compiler.automata.bounds import DEFAULT_BOUNDS, BoundExceeded, Bounds, Budget, OverBound
from kmesh.compiler.automata.dfa import DEAD, Dfa, Row
from kmesh.compiler.automata.machine import Machine, make_machine, make_word
from kmesh.compiler.automata.pages import Packed, pack_pages
from kmesh.compiler.automata.pattern import Integers, Kind, Pattern, Regex, Text
from kmesh.compiler.automata.regex import compile_regex
from kmesh.compiler.automata.union import compile_union
from kmesh.regex import RegexInvalid

__all__ = ["DEAD", "DEFAULT_BOUNDS", "BoundExceeded", "Bounds", "Budget", "Dfa", "Integers", "Kind", "Machine"]
__all__ += ["OverBound", "Packed", "Pattern", "Regex", "RegexInvalid", "Row", "Text", "compile_regex"]
__all__ += ["compile_union", "make_machine", "make_word", "pack_pages"]
