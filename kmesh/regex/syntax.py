"""The syntax tree of a regex, and the two ways in which a pattern can be refused.

Matching is of the whole subject and yields no submatches, so the tree has no groups and no laziness: both change
only which part of the subject a group holds. The functions make nodes in a simple form and keep `depth` and
`repetitions`, so that no later step needs a guard of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from kmesh.errors import Unsupported
from kmesh.regex.code_points import Ranges, make_ranges

__all__ = [
    "MAX_REPETITIONS",
    "Alternatives",
    "AnyByte",
    "Assertion",
    "Characters",
    "Concatenation",
    "Node",
    "RegexInvalid",
    "Repeat",
    "make_alternatives",
    "make_concatenation",
    "make_repeat",
]

MAX_REPETITIONS = 1000
"""RE2's bound on a counted repetition, and on the product of nested ones."""
_MAX_DEPTH = 200


class RegexInvalid(ValueError):
    """RE2 refuses this pattern too. The message says what is wrong and where."""


class Assertion(Enum):
    """What may hold between two bytes of the subject."""

    BEGIN_TEXT = r"\A"
    END_TEXT = r"\z"
    BEGIN_LINE = "(?m)^"
    END_LINE = "(?m)$"
    WORD_BOUNDARY = r"\b"
    NO_WORD_BOUNDARY = r"\B"

    @property
    def depth(self) -> int:
        return 0

    @property
    def repetitions(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of a set, in UTF-8. The empty set matches nothing."""

    ranges: Ranges
    depth: ClassVar[int] = 0
    repetitions: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class AnyByte:
    r"""\C: one byte, whatever it is."""

    depth: ClassVar[int] = 0
    repetitions: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenation:
    """One after the other; of no nodes, the empty string."""

    nodes: tuple[Node, ...]
    depth: int
    repetitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """Any one of them."""

    nodes: tuple[Node, ...]
    depth: int
    repetitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """`node` from `at_least` to `at_most` times; `at_most` None is without end."""

    node: Node
    at_least: int
    at_most: int | None
    depth: int
    """Of the tree below: bounded, so that recursion over it is safe."""
    repetitions: int
    """The product of the counts of nested repetitions, the largest below: bounded as in RE2."""


Node = Characters | AnyByte | Assertion | Concatenation | Alternatives | Repeat


def make_concatenation(nodes: Sequence[Node]) -> Node:
    if len(nodes) == 1:
        return nodes[0]
    return Concatenation(nodes=tuple(nodes), depth=_depth_above(nodes), repetitions=_repetitions(nodes))


def make_alternatives(nodes: Sequence[Node]) -> Node:
    """Neighbours that are one character each become one set, as in RE2; that keeps automata small."""
    merged: list[Node] = []
    for node in nodes:
        previous = merged[-1] if merged else None
        if isinstance(node, Characters) and isinstance(previous, Characters):
            merged[-1] = Characters(make_ranges(previous.ranges + node.ranges))
        else:
            merged.append(node)
    if len(merged) == 1:
        return merged[0]
    return Alternatives(nodes=tuple(merged), depth=_depth_above(merged), repetitions=_repetitions(merged))


def make_repeat(node: Node, at_least: int, at_most: int | None, *, counted: bool) -> Repeat:
    """`counted` is of {n,m}, which the bound is about. Raises: RegexInvalid over it."""
    count = (at_least if at_most is None else at_most) if counted else 1
    repetitions = node.repetitions * max(count, 1)
    if repetitions > MAX_REPETITIONS:
        raise RegexInvalid(f"repetition of {repetitions} is over {MAX_REPETITIONS}")
    return Repeat(node=node, at_least=at_least, at_most=at_most, depth=_depth_above((node,)), repetitions=repetitions)


def _depth_above(nodes: Sequence[Node]) -> int:
    depth = 1 + max((node.depth for node in nodes), default=-1)
    if depth > _MAX_DEPTH:
        raise Unsupported(f"a regex nested deeper than {_MAX_DEPTH}", "its pattern")
    return depth


def _repetitions(nodes: Sequence[Node]) -> int:
    return max((node.repetitions for node in nodes), default=1)
