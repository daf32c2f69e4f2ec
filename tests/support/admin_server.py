"""Serves a BridgeView's admin API from a thread with a loop of its own, for clients that are processes or block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmesh.bridge.admin import serve_admin
from kmesh.bridge.view import BridgeView

__all__ = ["admin_served"]

_TIMEOUT_S = 10.0


@contextmanager
def admin_served(view: BridgeView, path: Path) -> Iterator[None]:
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serve_admin(view, path):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(_TIMEOUT_S), "the admin API did not come up"
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(_TIMEOUT_S)
        assert not thread.is_alive(), "the admin API did not end"
        loop.close()
