"""The domains of a routing unit as records: one for each domain, found by the hash of its text through a B-tree.

    texts            hashes in order, cut into leaves              above
    a.x  -> link 1   03.. 17.. 2a.. | 41.. 5f.. | 88.. a0.. ff..   03.. 41.. 88..

Leaves are cut by kmesh.compiler.blocks, so they depend on the set of domains alone. A virtual host whose link changes
makes new records of its own domains, of the leaves that they are in, and of what is above those.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import chain
from struct import pack

from kmesh.compiler.blocks import cut_blocks
from kmesh.maps.image import MapName, Record
from kmesh.model.route import VirtualHost
from kmesh.records.constants import LIMITS
from kmesh.records.digest import content_id
from kmesh.records.hash import hash_text
from kmesh.records.layout import DOMAIN, ID, INDEX

__all__ = ["ANY", "DomainIndex", "domain_texts", "is_wildcard", "write_domains"]

ANY = b"*"
_FANOUT, _LONGEST = LIMITS["INDEX_FANOUT"], LIMITS["HOST_BYTES"]


def is_wildcard(domain: bytes) -> bool:
    return domain.startswith(ANY) or domain.endswith(ANY)


def domain_texts(host: VirtualHost) -> tuple[bytes, ...]:
    """In lower case. Those that no Host of HOST_BYTES can match are left out: longer ones are the relay's."""
    texts = (domain.lower().encode() for domain in host.domains)
    return tuple(text for text in texts if len(text) <= _LONGEST)


def write_domains(texts: Iterable[bytes], link: int) -> tuple[dict[int, int], list[Record]]:
    """({hash: id of the domain's record}, the records) of one virtual host.

    A wildcard's record has no text: it is reached by the automaton of wildcards, and by no Host that is spelled so.
    """
    ids: dict[int, int] = {}
    records: list[Record] = []
    for text in texts:
        literal = b"" if is_wildcard(text) else text
        record = DOMAIN.pack(link, len(literal), literal)
        number = content_id(record)
        ids[hash_text(text)] = number
        records.append((MapName.DOMAIN, ID.pack(number), record))
    return ids, records


class DomainIndex:
    """From {hash: id of a domain's record}."""

    def __init__(self, ids: Mapping[int, int]) -> None:
        self._ids = dict(ids)
        self._keys = sorted(ids)
        self._blocks = cut_blocks(self._keys, _FANOUT)
        self._leaves = [self._write_leaf(*block) for block in self._blocks]
        self._grow()

    @property
    def root(self) -> int:
        """Its id; 0 where there are no domains."""
        return self._root

    @property
    def records(self) -> tuple[Record, ...]:
        nodes = chain(self._leaves, self._above)
        return tuple((MapName.INDEX, ID.pack(number), record) for number, record in nodes)

    def with_ids(self, changed: Mapping[int, int]) -> DomainIndex:
        """The index where the domains of these hashes, all of them known, have other records."""
        new = DomainIndex.__new__(DomainIndex)
        new._ids, new._keys, new._blocks = {**self._ids, **changed}, self._keys, self._blocks
        starts = [self._keys[start] for start, _ in self._blocks]
        new._leaves = self._leaves.copy()
        for place in {bisect_right(starts, key) - 1 for key in changed}:
            new._leaves[place] = new._write_leaf(*self._blocks[place])
        new._grow()
        return new

    def _write_leaf(self, start: int, end: int) -> tuple[int, bytes]:
        keys = self._keys[start:end]
        return _write_node(0, keys, [self._ids[key] for key in keys])

    def _grow(self) -> None:
        """Directories over the leaves, until there is one root."""
        self._above: list[tuple[int, bytes]] = []
        keys = [self._keys[start] for start, _ in self._blocks]
        nodes, level = self._leaves, 0
        while len(nodes) > 1:
            level += 1
            blocks = cut_blocks(keys, _FANOUT)
            numbers = [number for number, _ in nodes]
            nodes = [_write_node(level, keys[start:end], numbers[start:end]) for start, end in blocks]
            keys = [keys[start] for start, _ in blocks]
            self._above += nodes
        assert level < LIMITS["INDEX_DEPTH"], "more domains than there is memory for"
        self._root = nodes[0][0] if nodes else 0


def _write_node(level: int, keys: list[int], targets: list[int]) -> tuple[int, bytes]:
    entries = pack(f"<{2 * len(keys)}Q", *chain.from_iterable(zip(keys, targets, strict=True)))
    record = INDEX.pack(len(keys), level, entries)
    return content_id(record), record
