"""Where members lie in the running kernel's structures, from its type information (BTF).

Source: Documentation/bpf/btf.rst, "Type and String Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import Struct

from kmesh.errors import FeatureMissing

__all__ = ["find_offset"]

VMLINUX = Path("/sys/kernel/btf/vmlinux")
_HEADER = Struct("<HBBIIIII")
"""Magic, version, flags, length of the header; offset and length of types, and of strings."""
_TYPE = Struct("<III")
"""Offset of the name; kind, count and flag; size or type."""
_MEMBER = Struct("<III")
"""Offset of the name; type; bit offset."""
_STRUCT, _UNION = 4, 5
_BEHIND = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0)}
_BEHIND[19] = (0, 12)
"""Of each kind, the bytes behind _TYPE: those of all, and those for each of the count. Other kinds have none."""
_KIND_SHIFT, _KIND_MASK, _COUNT_MASK, _BIT_OFFSET_MASK = 24, 31, 0xFFFF, 0xFFFFFF


@cache
def find_offset(structure: str, *members: str) -> int:
    """In bytes, of a member of a member of a structure; anonymous ones between are looked into.

    Raises: FeatureMissing.
    """
    try:
        types = _Types(VMLINUX.read_bytes())
        place, offset = types.find_structure(structure), 0
        for name in members:
            place, further = types.find_member(place, name)
            offset += further
    except (OSError, KeyError):
        what = f"type information (CONFIG_DEBUG_INFO_BTF) of {structure}.{'.'.join(members)}"
        raise FeatureMissing(what, "5.2", "boot a distribution's kernel, which has it") from None
    return offset


@dataclass(frozen=True, slots=True)
class _Composite:
    name: int
    at: int
    """Of its first member."""
    count: int


class _Types:
    """Structures and unions, by number."""

    def __init__(self, data: bytes) -> None:
        _, _, _, header, types, types_length, strings, _ = _HEADER.unpack_from(data)
        self._data, self._strings = data, header + strings
        self._composites = dict(self._read(header + types, header + types + types_length))

    def _read(self, at: int, end: int) -> Iterator[tuple[int, _Composite]]:
        number = 0
        while at < end:
            number += 1
            name, info, _ = _TYPE.unpack_from(self._data, at)
            kind, count = info >> _KIND_SHIFT & _KIND_MASK, info & _COUNT_MASK
            at += _TYPE.size
            if kind in (_STRUCT, _UNION):
                yield number, _Composite(name, at, count)
            whole, each = _BEHIND.get(kind, (0, 0))
            at += whole + each * count

    def find_structure(self, name: str) -> int:
        """Its type. Raises: KeyError."""
        for number, found in self._composites.items():
            if self._text(found.name) == name:
                return number
        raise KeyError(name)

    def find_member(self, place: int, name: str) -> tuple[int, int]:
        """(its type, offset in bytes). Raises: KeyError."""
        composite = self._composites[place]
        for index in range(composite.count):
            text, kind, bits = _MEMBER.unpack_from(self._data, composite.at + index * _MEMBER.size)
            offset = (bits & _BIT_OFFSET_MASK) // 8
            if self._text(text) == name:
                return kind, offset
            if not self._text(text) and kind in self._composites:
                try:
                    found, further = self.find_member(kind, name)
                except KeyError:
                    continue
                return found, offset + further
        raise KeyError(name)

    def _text(self, offset: int) -> str:
        at = self._strings + offset
        return self._data[at : self._data.index(b"\0", at)].decode()
