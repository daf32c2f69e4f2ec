"""Any number of exact texts and prefixes at once: their trie is their smallest automaton, so it is built directly.

Each node is a state: the text read so far. Where no child follows, the prefixes passed so far still match whatever
comes, so the state has that vector for ever; with no prefix passed it is DEAD. For "/" (bit 0, prefix), "/a" (bit 1,
prefix) and "/ab" (bit 2, exact):

    "" -/-> "/" -a-> "/a" -b-> "/ab"      vectors 000, 001, 011, 111
    otherwise:  "" DEAD, "/" for ever 001, "/a" and "/ab" for ever 011

No two states are equivalent. Each node has a text below it that no other node can still complete with the same
bytes, and the states that last for ever differ by vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.classes import number_by_first_use
from kmesh.compiler.automata.dfa import DEAD, Dfa, Row, make_row

__all__ = ["Trie", "compile_anchored"]

_WORK_OF_A_NODE = 5
"""Steps, with all that is made of it here."""


class Trie:
    """The texts' bytes, where upper and lower case are one if case is ignored. A node is a state, by its bounds."""

    __slots__ = ("budget", "children", "classes")

    def __init__(self, texts: Iterable[bytes], budget: Budget, *, ignore_case: bool) -> None:
        self.budget = budget
        texts = list(texts)
        used = set(b"".join(texts))
        folded = [_lower(byte) if ignore_case else byte for byte in range(256)]
        used_folded = {folded[byte] for byte in used}
        keys = [byte if byte in used_folded else None for byte in folded]
        self.classes = bytes(number_by_first_use(keys))
        self.children: list[dict[int, int]] = [{}]
        """Of each node: class -> node. Node 0 is the empty text; a node comes after its parent."""

    def add(self, text: bytes) -> int:
        """The node of `text`, which is made if it is new. Raises: BoundExceeded."""
        node, count = 0, len(self.children)
        for byte_class in text.translate(self.classes):
            children = self.children[node]
            if byte_class not in children:
                children[byte_class] = len(self.children)
                self.children.append({})
            node = children[byte_class]
        self.budget.spend(len(text) + _WORK_OF_A_NODE * (len(self.children) - count))
        self.budget.check("states", len(self.children))
        return node


def compile_anchored(
    exact: Mapping[bytes, int], prefixes: Mapping[bytes, int], *, ignore_case: bool, budget: Budget
) -> Dfa:
    """Text -> vector of its patterns, which no other text of the same mapping shares. Raises: BoundExceeded."""
    trie = Trie((*exact, *prefixes), budget, ignore_case=ignore_case)
    vector_here: dict[int, int] = {}
    vector_from_here: dict[int, int] = {}
    for texts, vector_at in ((exact, vector_here), (prefixes, vector_from_here)):
        for text, vector in texts.items():
            node = trie.add(text)
            vector_at[node] = vector_at.get(node, 0) | vector
    return _finish(trie, vector_here, _inherit(trie, vector_from_here, budget), budget)


def _inherit(trie: Trie, vector_from_here: Mapping[int, int], budget: Budget) -> list[int]:
    """Of each node, the prefixes passed on the way to it."""
    passed = [0] * len(trie.children)
    passed[0] = vector_from_here.get(0, 0)
    for node, children in enumerate(trie.children):
        for child in children.values():
            passed[child] = passed[node]
            if child in vector_from_here:
                passed[child] |= vector_from_here[child]
                budget.spend_on_vector(passed[child])
    return passed


def _finish(trie: Trie, vector_here: Mapping[int, int], passed: list[int], budget: Budget) -> Dfa:
    vectors = [vector | vector_here[node] if node in vector_here else vector for node, vector in enumerate(passed)]
    for_ever = {0: DEAD}
    """Vector -> the state that has it whatever follows. A prefix without children is one already."""
    for node, children in enumerate(trie.children):
        if not children and vectors[node] == passed[node]:
            for_ever[passed[node]] = node
    class_count = max(trie.classes) + 1
    rows = []
    for node, children in enumerate(trie.children):
        if len(children) == class_count:  # nothing leads to `otherwise`, which need not even be a state
            rows.append(make_row([children[byte_class] for byte_class in range(class_count)]))
            continue
        budget.spend_on_vector(vectors[node])
        if passed[node] not in for_ever:
            for_ever[passed[node]] = len(vectors)
            vectors.append(passed[node])
        rows.append(Row(for_ever[passed[node]], children))
    rows.extend(Row(state, {}) for state in range(len(rows), len(vectors)))
    budget.check("states", len(rows))
    return Dfa(classes=trie.classes, rows=tuple(rows), vectors=tuple(vectors))


def _lower(byte: int) -> int:
    return bytes((byte,)).lower()[0]
