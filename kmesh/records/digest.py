"""Ids of records: 64-bit BLAKE2b digests, so equal content has one id and a restart computes the same ids."""

from __future__ import annotations

from hashlib import blake2b

from kmesh.records.constants import LINK_KIND_BITS, LinkKind

__all__ = ["content_id", "link_to", "name_id"]


def content_id(record: bytes) -> int:
    """Id of an immutable record, never 0 (0 means none)."""
    return int.from_bytes(blake2b(record, digest_size=8).digest(), "little") or 1


def link_to(record: bytes, kind: LinkKind) -> int:
    """The link that leads to a record, and its key."""
    return content_id(record) & ~LINK_KIND_BITS | kind


def name_id(kind: str, name: str) -> int:
    """Id of a named thing ("cluster", "outbound|80||a"), stable while its content changes; never 0."""
    return content_id(f"{kind}\0{name}".encode())
