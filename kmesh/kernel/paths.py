"""Where an instance's pinned objects live in the bpf file system.

    <bpffs>/kmesh/<instance>/maps-<layout>/   one generation of maps, named by the layout of its records
    <bpffs>/kmesh/<instance>/progs-<digest>/  one build of the programs, named by what it was built from
    <bpffs>/kmesh/<instance>/links/           <cgroup id>-<program>, the attachments

An upgrade that keeps the layout keeps the maps; one that changes it fills a new generation before the links turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["InstancePaths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePaths:
    bpffs: Path
    instance: str

    @property
    def root(self) -> Path:
        return self.bpffs / "kmesh" / self.instance

    @property
    def links(self) -> Path:
        return self.root / "links"

    def maps(self, layout: str) -> Path:
        return self.root / f"maps-{layout}"

    def programs(self, digest: str) -> Path:
        return self.root / f"progs-{digest}"
