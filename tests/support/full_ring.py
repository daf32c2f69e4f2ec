"""A ring buffer of events that is full: programs can tell nothing."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kmesh.kernel import bpf
from kmesh.records.constants import LIMITS

__all__ = ["full_ring"]

_PAGE = mmap.PAGESIZE


@contextmanager
def full_ring(maps_dir: Path, run: Callable[[Callable[[], Any]], Any] = lambda work: work()) -> Iterator[None]:
    """`run` has work done where the relay reads events, if one runs.

    The consumer's position goes back by the ring's size, so that the kernel finds no room; a relay finds nothing
    there, as that is negative. What was told before is heard behind this.
    """
    fd = bpf.get_object(maps_dir / "km_events")
    own = mmap.mmap(fd, _PAGE)
    data = mmap.mmap(fd, _PAGE, prot=mmap.PROT_READ, offset=_PAGE)
    os.close(fd)
    with own, data, memoryview(own).cast("Q") as consumer, memoryview(data).cast("Q") as producer:

        def fill() -> int:
            was = int(consumer[0])
            assert producer[0] < LIMITS["EVENT_BYTES"], "more than a ring full was told"
            consumer[0] = producer[0] - LIMITS["EVENT_BYTES"] + 2**64
            return was

        def empty() -> None:
            consumer[0] = was

        was = run(fill)
        try:
            yield
        finally:
            run(empty)
