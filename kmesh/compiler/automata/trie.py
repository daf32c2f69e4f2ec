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

from kmesh.compiler.automata.bounds import Bounds
from kmesh.compiler.automata.classes import number_by_first_use
from kmesh.compiler.automata.dfa import DEAD, Dfa, Row, make_row

__all__ = ["Trie", "compile_anchored"]


class Trie:
    """The texts' bytes, where upper and lower case are one if case is ignored."""

    __slots__ = ("children", "classes")

    def __init__(self, texts: Iterable[bytes], *, ignore_case: bool) -> None:
        texts = list(texts)
        used = set(b"".join(texts))
        folded = [_lower(byte) if ignore_case else byte for byte in range(256)]
        used_folded = {folded[byte] for byte in used}
        keys = [byte if byte in used_folded else None for byte in folded]
        self.classes = bytes(number_by_first_use(keys))
        self.children: list[dict[int, int]] = [{}]
        """Of each node: class -> node. Node 0 is the empty text; a node comes after its parent."""

    def add(self, text: bytes) -> int:
        """The node of `text`, which is made if it is new."""
        node = 0
        for byte_class in text.translate(self.classes):
            children = self.children[node]
            if byte_class not in children:
                children[byte_class] = len(self.children)
                self.children.append({})
            node = children[byte_class]
        return node


def compile_anchored(
    exact: Mapping[bytes, int], prefixes: Mapping[bytes, int], *, ignore_case: bool, bounds: Bounds
) -> Dfa:
    """Text -> vector of its patterns, which no other text of the same mapping shares. Raises: AutomatonTooLarge."""
    trie = Trie((*exact, *prefixes), ignore_case=ignore_case)
    vector_here: dict[int, int] = {}
    vector_from_here: dict[int, int] = {}
    for texts, vector_at in ((exact, vector_here), (prefixes, vector_from_here)):
        for text, vector in texts.items():
            node = trie.add(text)
            vector_at[node] = vector_at.get(node, 0) | vector
    bounds.check("states", len(trie.children))
    return _finish(trie, vector_here, _inherit(trie, vector_from_here), bounds)


def _inherit(trie: Trie, vector_from_here: Mapping[int, int]) -> list[int]:
    """Of each node, the prefixes passed on the way to it."""
    passed = [0] * len(trie.children)
    passed[0] = vector_from_here.get(0, 0)
    for node, children in enumerate(trie.children):
        for child in children.values():
            own = vector_from_here.get(child)
            passed[child] = passed[node] | own if own else passed[node]
    return passed


def _finish(trie: Trie, vector_here: Mapping[int, int], passed: list[int], bounds: Bounds) -> Dfa:
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
        if passed[node] not in for_ever:
            for_ever[passed[node]] = len(vectors)
            vectors.append(passed[node])
        rows.append(Row(for_ever[passed[node]], children))
    rows.extend(Row(state, {}) for state in range(len(rows), len(vectors)))
    bounds.check("states", len(rows))
    return Dfa(classes=trie.classes, rows=tuple(rows), vectors=tuple(vectors))


def _lower(byte: int) -> int:
    return bytes((byte,)).lower()[0]
