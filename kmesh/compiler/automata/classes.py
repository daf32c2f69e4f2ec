"""Byte classes: which of the 256 bytes need never be told apart, so that a table has one column for all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

__all__ = ["make_classes", "merge_classes", "number_by_first_use"]


def number_by_first_use(keys: Iterable[Hashable]) -> list[int]:
    """Equal keys get one number, in the order of their first occurrence, from 0."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def make_classes(sets: Iterable[Iterable[int]]) -> bytes:
    """The class of each byte: one for all that are members of the same `sets`."""
    membership = [0] * 256
    for index, members in enumerate(sets):
        for byte in members:
            membership[byte] |= 1 << index
    return bytes(number_by_first_use(membership))


def merge_classes(partitions: Sequence[bytes]) -> bytes:
    """The coarsest classes that tell apart whatever one of `partitions`, 256 classes each, does."""
    return bytes(number_by_first_use(zip(*partitions, strict=True))) if partitions else bytes(256)
