"""CPU time of the whole machine, whoever spent it: client, server, mesh, and the kernel on behalf of nobody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cpu"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Seconds, summed over all CPUs. Source: proc_stat(5); the kernel counts in ticks, of 10 ms as a rule."""

    user: float
    """Nice included."""
    system: float
    softirq: float
    """Hard interrupts included: most of what packets cost is spent here."""

    @classmethod
    def now(cls) -> Cpu:
        """Since boot."""
        return cls.parse(Path("/proc/stat").read_text())

    @classmethod
    def parse(cls, stat: str) -> Cpu:
        """From the text of /proc/stat."""
        user, nice, system, _idle, _iowait, irq, softirq = (int(tick) for tick in stat.split(maxsplit=8)[1:8])
        return cls(
            user=(user + nice) / _TICKS_PER_S, system=system / _TICKS_PER_S, softirq=(irq + softirq) / _TICKS_PER_S
        )

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(
            user=self.user - earlier.user,
            system=self.system - earlier.system,
            softirq=self.softirq - earlier.softirq,
        )

    @property
    def total(self) -> float:
        return self.user + self.system + self.softirq
