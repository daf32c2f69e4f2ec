"""One virtual host on its way from routes to records. Rules: immutable; no records, no ids.

    VirtualHost -> candidates -> a graph of steps -> records

A candidate is a route that some request may take, as conditions that must all hold. The graph says what to look at
to find the first candidate whose conditions do; its steps are numbered, and a step leads only to steps before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kmesh.compiler.automata import Pattern
from kmesh.compiler.ir import ToCluster, Weighted
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.model.match import MILLION
from kmesh.records.constants import Field, Handover

__all__ = ["PATH", "Candidate", "Condition", "FieldKind", "FieldName", "Graph", "HandOver", "Number", "Split", "Step"]
__all__ += ["Take", "Test", "TestAll", "Way"]


class FieldKind(Enum):
    PATH = "path"
    """Without the query."""
    HEADER = "header"
    """Pseudo-headers too."""
    PARAMETER = "query parameter"


@dataclass(frozen=True, slots=True)
class FieldName:
    kind: FieldKind
    name: str = ""
    """Of a header in lower case; "" for the path."""

    @property
    def id(self) -> int:
        match self.kind:
            case FieldKind.PATH:
                return int(Field.PATH)
            case FieldKind.HEADER:
                return header_field(self.name)
            case FieldKind.PARAMETER:
                return parameter_field(self.name)

    @property
    def always_comes(self) -> bool:
        """Every request that gets as far as a virtual host has a value."""
        return self.id in tuple(Field)


PATH = FieldName(FieldKind.PATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """With a value it holds when (some value matches one of `patterns`) != is_inverted; without, when_absent says."""

    field: FieldName
    patterns: tuple[Pattern, ...] = ()
    is_inverted: bool = False
    when_absent: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    reason: Handover


Way = ToCluster | Weighted | HandOver


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    index: int
    """Of the route in its virtual host."""
    conditions: tuple[Condition, ...]
    per_million: int = MILLION
    """Of the requests that meet all conditions, 1 at least."""
    way: Way

    @property
    def is_certain(self) -> bool:
        """It takes all requests that meet its conditions."""
        return self.per_million == MILLION


Number = int | None
"""Of a step; None where there is no route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A route, by chance or always."""

    index: int
    way: Way
    per_million: int = MILLION
    otherwise: Number = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """With a value the outcome is (the bits of all patterns that some value matches) ^ inverted; without, absent."""

    field: FieldName
    patterns: tuple[tuple[Pattern, int], ...]
    """(pattern, bits), each pattern once."""
    inverted: int
    absent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TestAll:
    """The lowest bit that all tests have in their outcomes says where to go."""

    tests: tuple[Test, ...]
    links: tuple[int, ...]
    """Of each bit."""
    next: Number
    """Where no bit is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which of the patterns match the only value says where to go."""

    field: FieldName
    patterns: tuple[Pattern, ...]
    links: tuple[tuple[int, int], ...]
    """(vector, number): bit i of a vector stands for patterns[i]. Every vector but 0 that there can be."""
    next: Number
    """Where no pattern matches."""
    absent: Number


Step = Take | TestAll | Split


@dataclass(frozen=True, slots=True)
class Graph:
    steps: tuple[Step, ...]
    """A step leads to steps before it."""
    root: Number
