r"""The automaton that reads heads of answers: HTTP/1.1's grammar, strictly, and the fields that say where they end.

    state         byte                    event        next state
    VERSION       of HTTP/1.1             -            its next byte
                  space behind it         NAME         CODE (whose value is STATUS)
    CODE          digits, three of them   -            CODE_END
    CODE_END      space                   VALUE_END    REASON
                  CR                      VALUE_END    LINE_END
    REASON        text                    -            REASON
                  CR                      -            LINE_END
    LINE_END and what follows as in kmesh.compiler.routes.head_automaton

What is no such head is handed over, as MALFORMED or VERSION: then the relay reads the answer.

Source: RFC 9112 sections 4 and 6.3; docs/decisions/0009-streams.md.
"""

from __future__ import annotations

from kmesh.compiler.automata.pages import pack_pages
from kmesh.compiler.routes.head_automaton import build_answer_automaton

__all__ = ["ANSWERS"]

ANSWERS = pack_pages(build_answer_automaton())
"""One for all: it knows no names of a configuration's."""
