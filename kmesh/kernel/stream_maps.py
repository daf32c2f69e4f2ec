"""The maps of streams whose shapes bcc cannot say: sockhashes, the pools, the events (bpf_src/km_maps.h)."""

from __future__ import annotations

import os
from pathlib import Path

from kmesh.errors import MapError
from kmesh.kernel import bpf
from kmesh.records.constants import LIMITS
from kmesh.records.layout import POOL_KEY

__all__ = ["create_pool_queue", "create_stream_maps"]

_COOKIE = 8


def create_stream_maps(maps_dir: Path) -> None:
    """Pin those of the maps in `maps_dir` that are not there yet, empty. Raises MapError."""
    makers = {
        "km_clients": _create_sockhash,
        "km_upstreams": _create_sockhash,
        "km_events": lambda name: bpf.create_map(bpf.MapType.RINGBUF, 0, 0, LIMITS["EVENT_BYTES"], name=name),
        "km_pool": _create_pools,
    }
    for name, make in makers.items():
        path = maps_dir / name
        if path.exists():
            continue
        try:
            fd = make(name)
            try:
                bpf.pin(fd, path)
            finally:
                os.close(fd)
        except OSError as error:
            raise MapError(name, "create", error.errno or 0) from None


def create_pool_queue() -> int:
    """A queue of cookies, to be put into km_pool."""
    return bpf.create_map(bpf.MapType.QUEUE, 0, _COOKIE, LIMITS["POOL_SIZE"], name="km_pool_queue")


def _create_sockhash(name: str) -> int:
    return bpf.create_map(bpf.MapType.SOCKHASH, 8, 8, LIMITS["STREAMS"], name=name)


def _create_pools(name: str) -> int:
    inner = create_pool_queue()
    try:
        return bpf.create_map(
            bpf.MapType.HASH_OF_MAPS, POOL_KEY.size, 4, LIMITS["STREAMS"], inner_fd=inner, name=name
        )
    finally:
        os.close(inner)
