"""The seal of a cell: a 64-bit mix of key and value that a torn or recycled read cannot carry.

Hash maps free a replaced element at once and may hand it to the next update, under another key, while a program
on another CPU still reads it (linux kernel/bpf/hashtab.c). A program therefore checks the seal against the key it
asked for and the value it copied, and looks again when they disagree. This is not a defence against forgery.
"""

from __future__ import annotations

import struct

__all__ = ["SEAL_MULTIPLIER", "SEAL_SEED", "seal"]

SEAL_SEED = 0x6B6D657368736561
SEAL_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd

_MASK = (1 << 64) - 1


def seal(key: bytes, target: int, action: int) -> int:
    """Mix the key's 32-bit little-endian words, then target, then action. `len(key)` is a multiple of 4."""
    h = SEAL_SEED
    for word in (*struct.unpack(f"<{len(key) // 4}I", key), target, action):
        h = ((h ^ word) * SEAL_MULTIPLIER) & _MASK
        h ^= h >> 32
    return h
