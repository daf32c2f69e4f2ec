"""Any number of suffixes, or of texts contained anywhere, at once: the automata of Aho and Corasick.

A state is the longest end of what has been read that is a beginning of some text, a node of their trie. A byte leads
to the child, or else to where it leads from the node's longest proper end that is a node too, its `shorter` one.
For "ab" and "ba":

    "" -a-> "a" -b-> "ab" -a-> "ba"       "ab" has the shorter node "b", whose child by a is "ba"

For suffixes that is all, and no two states are equivalent: a node of length n still accepts with fewer bytes than
any shorter node could. For `contains` a state also holds the vector of what it has found, so n texts that occur
independently take 2**n states at least.
"""

from __future__ import annotations

from collections.abc import Mapping

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.dfa import Dfa, Row
from kmesh.compiler.automata.minimise import minimise
from kmesh.compiler.automata.subset import Dense
from kmesh.compiler.automata.trie import Trie

__all__ = ["compile_contains", "compile_suffixes"]


def compile_suffixes(suffixes: Mapping[bytes, int], *, ignore_case: bool, budget: Budget) -> Dfa:
    """Text -> vector of its patterns. Raises: BoundExceeded."""
    return _search(suffixes, ignore_case=ignore_case, budget=budget)


def compile_contains(texts: Mapping[bytes, int], *, ignore_case: bool, budget: Budget) -> Dfa:
    """Text -> vector of its patterns. Raises: BoundExceeded."""
    search = _search(texts, ignore_case=ignore_case, budget=budget)
    found = [(0, search.vectors[0])]
    numbers = {found[0]: 0}
    targets: list[list[int]] = []
    for node, seen in found:  # grows meanwhile
        budget.spend(search.class_count)
        row = []
        for byte_class in range(search.class_count):
            target = search.rows[node].target(byte_class)
            key = (target, seen | search.vectors[target])
            if key not in numbers:
                numbers[key] = len(found)
                found.append(key)
                budget.check("contains_states", len(found))
            row.append(numbers[key])
        targets.append(row)
    return minimise(Dense(search.classes, targets, [seen for _, seen in found]), budget)


def _search(texts: Mapping[bytes, int], *, ignore_case: bool, budget: Budget) -> Dfa:
    """Whose state's vector is of the texts that have just ended."""
    trie = Trie(texts, budget, ignore_case=ignore_case)
    own_vector: dict[int, int] = {}
    for text, vector in texts.items():
        node = trie.add(text)
        own_vector[node] = own_vector.get(node, 0) | vector
    vectors = [own_vector.get(0, 0)] * len(trie.children)
    rows = [Row(0, trie.children[0])] * len(trie.children)
    shorter = [0] * len(trie.children)
    breadth_first = list(trie.children[0].values())
    for node in breadth_first:  # grows meanwhile
        vectors[node] = own_vector.get(node, 0) | vectors[shorter[node]]
        targets = rows[shorter[node]].exceptions
        budget.spend(len(targets))
        budget.spend_on_vector(vectors[node])
        rows[node] = Row(0, {**targets, **trie.children[node]})
        for byte_class, child in trie.children[node].items():
            shorter[child] = targets.get(byte_class, 0)
            breadth_first.append(child)
    return Dfa(classes=trie.classes, rows=tuple(rows), vectors=tuple(vectors))
