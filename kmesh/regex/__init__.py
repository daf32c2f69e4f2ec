"""RE2's syntax: a pattern to its syntax tree, or why RE2 refuses it. Pure; imports kmesh.errors only.

    parse (escapes, bracket: named_classes, code_points) -> syntax

Decoding asks whether Envoy would take a pattern; the compiler makes automata of the tree. What only RE2 itself can
match, a Unicode class or nesting without reason, is Unsupported, which is no fault of the resource.
"""

from kmesh.regex.parse import parse_regex
from kmesh.regex.syntax import Node, RegexInvalid

__all__ = ["Node", "RegexInvalid", "parse_regex"]
