"""Kernel tables that no compiler would write: any record may be missing, unsound, sealed wrongly or lead in a circle.

Few ids and extreme numbers, so that most decisions get somewhere before they meet what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from kmesh.maps.image import Fragment, MapImage, MapName
from kmesh.model.address import WILDCARD_V4, WILDCARD_V6, Protocol, SocketAddress
from kmesh.records.constants import LIMITS, Action, NodeKind, Reason
from kmesh.records.layout import BACKEND, CELL, ENTRY, NODE
from kmesh.records.seal import seal
from tests.support.records import frontend_key, key64

__all__ = ["ASKED", "any_draw", "any_tables"]

T = TypeVar("T")
_HOSTS = ("10.96.0.1", "10.96.0.2", "2001:db8::1", "2001:db8::2")
ASKED = [SocketAddress.parse(host, port) for host in _HOSTS for port in (80, 81)]
_WILDCARDS = [SocketAddress(addr16, port) for addr16 in (WILDCARD_V4, WILDCARD_V6) for port in (80, 0)]
_U32 = 2**32 - 1
_IDS = range(1, 7)
_WAYS = [Action.NODE] * 8 + [Action.CLUSTER, Action.BACKEND] * 3 + [Action.PASS, Action.REFUSE, Action.NONE]
_UNKNOWN_ACTIONS = [6, 99, 2**16 - 1]
_REASONS = [*range(max(Reason) + 3), 2**32 + Reason.NO_ENDPOINT, 2**63 + Reason.FAMILY]
_KINDS = [*NodeKind] * 8 + [0, 4, _U32]
_COUNTS = [0, 1, 2, 3, 5, 63, 64, 65, 4096, _U32]
_TOTALS = [0, 1, 2, 5, 9, 25, 64, 4097, _U32]
_STRIDES = [0, 1, 1, 1, 2, 2, 3, 3, 5, 64, _U32]
_ALIASES = [*range(6), 63, 64, 65, 2**16 - 1]
_NUMBERS = [0, 1, 2**31 - 1, 2**31, _U32 - 1, _U32]


def any_draw(random: Random) -> int:
    """A 32-bit number, often an extreme one."""
    return random.choice(_NUMBERS) if random.random() < 0.3 else random.getrandbits(32)


def any_tables(random: Random) -> MapImage:
    """With frontends among ASKED and the wildcards, of TCP and UDP."""
    records = [(MapName.BACKEND, key64(number), _backend(random)) for number in _most(random, _IDS)]
    records += [(MapName.CURSOR, key64(number), key64(0)) for number in _most(random, _IDS)]
    records += [(MapName.NODE, key64(number), _node(random)) for number in _most(random, _IDS)]
    records += [(MapName.CLUSTER, key64(number), _cell(random, key64(number))) for number in _most(random, _IDS)]
    destinations = [(address, protocol) for address in (*ASKED, *_WILDCARDS) for protocol in Protocol]
    for address, protocol in _most(random, destinations):
        key = frontend_key(address, protocol)
        records.append((MapName.FRONTEND, key, _cell(random, key)))
    return MapImage({("any", "tables"): Fragment.of(records)})


def _most(random: Random, items: Iterable[T]) -> list[T]:
    return [item for item in items if random.random() < 0.75]


def _way(random: Random) -> tuple[int, int]:
    """(action, target)."""
    if random.random() < 0.03:
        return random.choice(_UNKNOWN_ACTIONS), random.choice(_IDS)
    action = random.choice(_WAYS)
    return action, random.choice(_REASONS if action is Action.REFUSE else _IDS)


def _cell(random: Random, key: bytes) -> bytes:
    """One in twenty has a flipped bit, which may be one of the padding."""
    action, target = _way(random)
    cell = int.from_bytes(CELL.pack(target, action, seal(key, target, action)), "little")
    if random.random() < 0.05:
        cell ^= 1 << random.randrange(8 * CELL.size)
    return cell.to_bytes(CELL.size, "little")


def _node(random: Random) -> bytes:
    entries = [_entry(random) for _ in range(random.choice((1, 2, 3, 5, LIMITS["NODE_FANOUT"])))]
    count = len(entries) if random.random() < 0.6 else random.choice(_COUNTS)
    total, stride = random.choice(_TOTALS), random.choice(_STRIDES)
    return NODE.pack(random.choice(_KINDS), count, total, stride, random.choice(_IDS), b"".join(entries))


def _entry(random: Random) -> bytes:
    return ENTRY.pack(any_draw(random), random.choice(_ALIASES), *_way(random))


def _backend(random: Random) -> bytes:
    """Any families, unknown ones among them, whatever the addresses."""
    families = random.choice((1, 2, 3, 1, 2, 3, 0, 4, 5, 6, _U32))
    ports = random.getrandbits(16), random.getrandbits(16)
    return BACKEND.pack(random.randbytes(16), random.randbytes(4), *ports, families, 1)
