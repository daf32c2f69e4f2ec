"""The virtual host of a request: Host is checked, its port cut off where the options say so, and looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kmesh.compiler.interpreter.automaton import run_automaton
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.descent import Tables
from kmesh.compiler.interpreter.handed_over import HandedOver
from kmesh.maps.image import MapName
from kmesh.records.constants import LIMITS, Handover, RoutesFlag
from kmesh.records.hash import hash_text
from kmesh.records.layout import DOMAIN, ID, INDEX, INDEX_ENTRY

__all__ = ["Authority", "find_virtual_host", "read_authority"]

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%\[\]-]+")
_HALVES = (128, 64, 32, 16, 8, 4, 2, 1)
"""Their sum is not below KM_MAX_INDEX_FANOUT."""
_MAX_DIGITS = 5
"""Of a port that is compared; leading zeros count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    value: bytes
    """As conditions see it."""
    host: bytes
    """As virtual hosts are looked for."""


def read_authority(values: list[bytes], flags: int, port: int) -> Authority:
    """From the values of Host. `flags` are RoutesFlag. Raises: HandedOver."""
    if len(values) != 1 or len(values[0]) > LIMITS["HOST_BYTES"] or not _HOST.fullmatch(values[0]):
        raise HandedOver(Handover.HOST)
    value = values[0]
    if flags & RoutesFlag.STRIP_DOT and _has_trailing_dot(value):
        raise HandedOver(Handover.NORMALIZE)
    value = _strip_port(value, flags, port)
    host = value[: _find_colon(value)] if flags & RoutesFlag.IGNORE_PORT else value
    return Authority(value=value, host=host)


def find_virtual_host(tables: Tables, domains: int, wildcards: int, host: bytes) -> int:
    """The link to its routes. `domains` is the index, `wildcards` the automaton, which ignores case itself.

    Raises: HandedOver, Broken.
    """
    text = host.lower()
    domain = _look_up(tables, domains, hash_text(text))
    if domain is None or (domain.length, domain.text[: len(text)]) != (len(text), text):
        wildcard = run_automaton(tables[MapName.PAGE], wildcards, host)
        domain = _look_up(tables, domains, wildcard) if wildcard else None
    if domain is None:
        raise HandedOver(Handover.NO_VIRTUAL_HOST)
    return domain.link


class _Domain(NamedTuple):
    """The values of DOMAIN."""

    link: int
    length: int
    pad: int
    text: bytes


def _find_colon(value: bytes) -> int:
    """Where the host ends: at the last colon that no bracket follows, or at the end."""
    colon = value.rfind(b":")
    return colon if colon > value.rfind(b"]") else len(value)


def _has_trailing_dot(value: bytes) -> bool:
    """Also before a colon that is not the last: Envoy cuts the last dot where any colon follows."""
    return value.endswith(b".") or b".:" in value


def _strip_port(value: bytes, flags: int, port: int) -> bytes:
    if not flags & (RoutesFlag.STRIP_PORT | RoutesFlag.STRIP_MATCHING_PORT):
        return value
    colon = _find_colon(value)
    written = value[colon + 1 :]
    if not written.isdigit():
        return value
    if len(written) > _MAX_DIGITS:
        raise HandedOver(Handover.NORMALIZE)
    return value[:colon] if flags & RoutesFlag.STRIP_PORT or int(written) == port else value


def _look_up(tables: Tables, index: int, key: int) -> _Domain | None:
    """The domain with this hash."""
    for _ in range(LIMITS["INDEX_DEPTH"]):
        if not index:
            return None
        level, found = _search(tables[MapName.INDEX], index, key)
        if not level:
            return _read_domain(tables[MapName.DOMAIN], found) if found else None
        index = found
    raise Broken("an index deeper than its bound")


def _search(indices: Mapping[bytes, bytes], index: int, key: int) -> tuple[int, int]:
    """(level, target of the entry for `key`) in one node; target 0 where no entry is for it."""
    record = indices.get(ID.pack(index))
    if record is None:
        raise Broken(f"no index {index:#x}")
    count, level, entries = INDEX.struct.unpack(record)
    if count > LIMITS["INDEX_FANOUT"]:
        raise Broken(f"index {index:#x} of {count} entries")
    rows = list(INDEX_ENTRY.struct.iter_unpack(entries[: count * INDEX_ENTRY.size]))
    place = _count_up_to(key, [least for least, _ in rows])
    least, target = rows[place - 1] if place else (key, 0)
    return level, target if level or least == key else 0


def _count_up_to(key: int, keys: list[int]) -> int:
    """How many are not above `key`; of keys out of order, what the kernel's halving comes to."""
    count = 0
    for step in _HALVES:
        if count + step <= len(keys) and keys[count + step - 1] <= key:
            count += step
    return count


def _read_domain(domains: Mapping[bytes, bytes], domain: int) -> _Domain:
    record = domains.get(ID.pack(domain))
    if record is None:
        raise Broken(f"no domain {domain:#x}")
    return _Domain(*DOMAIN.struct.unpack(record))
