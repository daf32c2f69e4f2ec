"""`python -m kmesh.bridge`: one bridge per node and instance, until SIGINT or SIGTERM.

Exit status: 0 after a signal, 1 when the kernel cannot do what is needed, 2 when a setting is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import uvloop

import kmesh
from kmesh.bridge.bridge import read_config_files, run_bridge
from kmesh.bridge.data_plane import DataPlane
from kmesh.bridge.lock import hold_lock
from kmesh.bridge.settings import Settings, load_settings
from kmesh.bridge.state import LOCK_FILE, prepare_state_dir, remove_state
from kmesh.bridge.tls import build_ssl_context
from kmesh.errors import ConfigError, KmeshError
from kmesh.kernel.features import require_root
from kmesh.kernel.uninstall import uninstall
from kmesh.logs import configure_logging
from kmesh.relay.record import end_relay

_COLLECT_AFTER = 50_000
"""Objects more than before."""

_log = logging.getLogger("kmesh.bridge")


def main() -> int:
    try:
        settings = load_settings(sys.argv[1:], os.environ)
        configure_logging(settings.log_format, settings.log_level)
        if settings.version:
            print(f"kmesh {kmesh.__version__}")
            return 0
        require_root()
        return _uninstall(settings) if settings.uninstall else _run(settings)
    except ConfigError as error:
        print(f"kmesh.bridge: {error}", file=sys.stderr)
        return 2
    except KmeshError as error:
        print(f"kmesh.bridge: {error}", file=sys.stderr)
        return 1


def _run(settings: Settings) -> int:
    if settings.tls:
        build_ssl_context(settings)  # now a mistake ends the start; later it only fails a connection
    files = read_config_files(settings)  # likewise, before anything is loaded
    prepare_state_dir(settings.state_dir)
    with _hold_instance(settings):
        data_plane = DataPlane(settings.bpffs, settings.instance, settings.cgroup)
        # What is loaded by now lives as long as the process: the collector need not look at it again. And what a
        # large update allocates is configuration, not garbage: looking through it every 700 objects costs a fifth.
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        try:
            uvloop.run(_until_signalled(run_bridge(settings, data_plane, files)))
        finally:
            data_plane.close()
    return 0


@contextlib.contextmanager
def _hold_instance(settings: Settings) -> Iterator[None]:
    """One process at a time for this state directory, and for this instance's pins whatever that directory is."""
    settings.api_socket.parent.mkdir(parents=True, exist_ok=True)
    with (
        hold_lock(settings.state_dir / LOCK_FILE, settings.instance),
        hold_lock(settings.api_socket.with_suffix(".lock"), settings.instance),
    ):
        yield


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    _log.info("bridge_stopped", extra={"programs": "stay attached, see --uninstall"})


def _uninstall(settings: Settings) -> int:
    prepare_state_dir(settings.state_dir)
    with _hold_instance(settings):
        removed = uninstall(settings.instance, settings.bpffs) + end_relay(settings.relay_dir)
        remove_state(settings.state_dir)
    settings.api_socket.with_suffix(".lock").unlink(missing_ok=True)
    for path in (*removed, settings.state_dir):
        print(f"removed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
