"""The hash by which domains are looked up: FNV-1a over bytes, 64 bits, plain enough to run in the kernel.

It need not resist attack: a domain is compared as text once it is found, and which domains there are is the
operator's to say. Source: the FNV page of Fowler, Noll and Vo.
"""

from __future__ import annotations

__all__ = ["HASH_MULTIPLIER", "HASH_SEED", "hash_text"]

HASH_SEED = 0xCBF29CE484222325
HASH_MULTIPLIER = 0x100000001B3
_MASK = (1 << 64) - 1


def hash_text(text: bytes) -> int:
    h = HASH_SEED
    for byte in text:
        h = ((h ^ byte) * HASH_MULTIPLIER) & _MASK
    return h
