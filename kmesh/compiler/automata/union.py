"""All patterns of a field as one automaton, whose vector says which of them match.

Each sort of pattern has its own direct construction: exact texts and prefixes one trie, suffixes and contained texts
one search each, all of them twice if some ignore case, and every regex and range an automaton of its own. The
automaton of the field is their product. Equal patterns are compiled once, with the bits of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.dfa import Dfa
from kmesh.compiler.automata.integers import compile_integers
from kmesh.compiler.automata.pattern import Integers, Kind, Pattern, Regex, Text
from kmesh.compiler.automata.product import multiply
from kmesh.compiler.automata.regex import compile_regex
from kmesh.compiler.automata.search import compile_contains, compile_suffixes
from kmesh.compiler.automata.trie import compile_anchored

__all__ = ["compile_union"]


def compile_union(
    patterns: Sequence[Pattern], budget: Budget | None = None, regexes: MutableMapping[Regex, Dfa] | None = None
) -> Dfa:
    """The smallest automaton whose vector has bit i when patterns[i] matches the whole subject.

    `regexes` keeps those of single regexes from one call to the next.

    Raises: RegexInvalid; Unsupported for a regex; BoundExceeded.
    """
    budget = budget or Budget()
    vectors: dict[Pattern, int] = {}
    for index, pattern in enumerate(patterns):
        vectors[pattern] = vectors.get(pattern, 0) | 1 << index
        budget.spend_on_vector(vectors[pattern])
    parts = [
        *_compile_texts(vectors, ignore_case=False, budget=budget),
        *_compile_texts(vectors, ignore_case=True, budget=budget),
        *_compile_others(vectors, budget, {} if regexes is None else regexes),
    ]
    return multiply(parts, budget)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Text -> vector, by how it is compared."""

    exact: dict[bytes, int] = field(default_factory=dict)
    prefixes: dict[bytes, int] = field(default_factory=dict)
    suffixes: dict[bytes, int] = field(default_factory=dict)
    contained: dict[bytes, int] = field(default_factory=dict)

    def add(self, kind: Kind, text: bytes, vector: int) -> None:
        """A separated prefix is the exact text, or the prefix that ends in the slash."""
        match kind:
            case Kind.EXACT:
                _add_vector(self.exact, text, vector)
            case Kind.PREFIX:
                _add_vector(self.prefixes, text, vector)
            case Kind.SEPARATED_PREFIX:
                _add_vector(self.exact, text, vector)
                _add_vector(self.prefixes, text + b"/", vector)
            case Kind.SUFFIX:
                _add_vector(self.suffixes, text, vector)
            case Kind.CONTAINS:
                _add_vector(self.contained, text, vector)
            case _:
                assert_never(kind)


def _add_vector(vectors: dict[bytes, int], text: bytes, vector: int) -> None:
    vectors[text] = vectors.get(text, 0) | vector


def _compile_texts(vectors: Mapping[Pattern, int], *, ignore_case: bool, budget: Budget) -> Iterator[Dfa]:
    texts = _Texts()
    for pattern, vector in vectors.items():
        if isinstance(pattern, Text) and pattern.ignore_case == ignore_case:
            texts.add(pattern.kind, pattern.text.lower() if ignore_case else pattern.text, vector)
    if texts.exact or texts.prefixes:
        yield compile_anchored(texts.exact, texts.prefixes, ignore_case=ignore_case, budget=budget)
    if texts.suffixes:
        yield compile_suffixes(texts.suffixes, ignore_case=ignore_case, budget=budget)
    if texts.contained:
        yield compile_contains(texts.contained, ignore_case=ignore_case, budget=budget)


def _compile_others(
    vectors: Mapping[Pattern, int], budget: Budget, regexes: MutableMapping[Regex, Dfa]
) -> Iterator[Dfa]:
    for pattern, vector in vectors.items():
        match pattern:
            case Regex():
                if pattern not in regexes:
                    regexes[pattern] = compile_regex(pattern.pattern, budget, ignore_case=pattern.ignore_case)
                dfa = regexes[pattern]
            case Integers():
                dfa = compile_integers(pattern, budget)
            case Text():
                continue
            case _:
                assert_never(pattern)
        yield replace(dfa, vectors=tuple(vector if accepts else 0 for accepts in dfa.vectors))
