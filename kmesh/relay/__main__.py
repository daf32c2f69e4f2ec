"""`python -m kmesh.relay`: one relay per instance, until SIGTERM. Started by the bridge, which it outlives.

It ends at once and unwinds nothing: what it would close is its keeper's too. So the sockets that it had are there for
the next one, whatever ended it.

Exit status: 0 after a signal, 1 when it cannot go on, 2 when a setting is wrong or another relay runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from kmesh.errors import ConfigError, KmeshError
from kmesh.logs import configure_logging
from kmesh.relay.keeper import raise_descriptor_limit
from kmesh.relay.succession import Succession

__all__ = ["MakeRelay", "RelayOptions", "RunningRelay", "main"]

_log = logging.getLogger("kmesh.relay")

_DESCRIPTION = """\
The kmesh relay carries the HTTP exchanges that the programs in the kernel leave to user space, and holds
the connections that those programs use. The bridge starts one, and starts it again when it ends.

Whatever ends it, its connections stay open: a second small process, kmesh-keeper, has the same
descriptors, and the next relay with the same --runtime-dir takes them over in the middle of an
exchange. To end both, and every connection with them: python -m kmesh.bridge --uninstall.

example:
  python -m kmesh.relay --maps-dir /sys/fs/bpf/kmesh/default/maps-1f6e4c1a9d20 \\
      --configuration /var/lib/kmesh/default/relay.msgpack --runtime-dir /run/kmesh/default.relay"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    maps_dir: Path
    configuration: Path
    runtime_dir: Path
    cgroups: tuple[Path, ...]
    build: str
    log_format: str
    log_level: str


class RunningRelay(Protocol):
    """What this needs of kmesh.relay.relay.Relay."""

    def status(self) -> dict[str, object]: ...

    async def reload(self) -> None: ...

    async def run(self) -> None:
        """Until it cannot go on."""


MakeRelay = Callable[[RelayOptions, Succession], AbstractAsyncContextManager[RunningRelay]]


def main(argv: list[str], make_relay: MakeRelay) -> NoReturn:
    status = 1
    try:
        options = _read_options(argv)
        configure_logging(options.log_format, options.log_level)
        limit = raise_descriptor_limit()
        succession = Succession(options.runtime_dir, options.build)
        _log.info("relay_started", extra={"keeper": succession.keeper.id.pid, "descriptors": limit})
        _run(options, succession, make_relay)
    except ConfigError as error:
        print(f"kmesh.relay: {error}", file=sys.stderr)
        status = 2
    except KmeshError as error:
        print(f"kmesh.relay: {error}", file=sys.stderr)
    except SystemExit as error:  # of --help
        status = int(error.code or 0)
    except BaseException:
        _log.exception("relay_failed")
    leave(status)


def leave(status: int) -> NoReturn:
    """End this process with every socket as it is."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(options: RelayOptions, succession: Succession, make_relay: MakeRelay) -> None:
    import asyncio  # the keeper has what was imported before it
    import signal

    import uvloop

    from kmesh.relay.control import serve_control

    def stop() -> None:
        _log.info("relay_stopped", extra={"connections": "stay with the keeper"})
        leave(0)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        succession.keeper.watch()
        adopted = succession.take_over()
        _log.info("adopted", extra={"sockets": len(adopted.by_cookie()), "accepted": len(adopted.accepted)})
        try:
            async with make_relay(options, succession) as relay, serve_control(relay, options.runtime_dir):
                try:
                    await relay.run()
                except BaseException:
                    _log.exception("relay_failed")
                leave(1)  # before either context closes anything
        except BaseException:
            _log.exception("relay_failed")
            leave(1)

    uvloop.run(serve())


def _read_options(argv: list[str]) -> RelayOptions:
    """Raises: SystemExit, ConfigError."""
    parser = argparse.ArgumentParser(
        prog="python -m kmesh.relay",
        description=_DESCRIPTION,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=8, width=100),
        allow_abbrev=False,
    )
    for name, metavar, text in (
        ("--maps-dir", "DIR", "The pinned maps of the programs it works with."),
        ("--configuration", "FILE", "What the bridge tells it, read at the start and when the bridge says so."),
        ("--runtime-dir", "DIR", "For its control socket and the record of who is the relay; not to outlive a boot."),
    ):
        parser.add_argument(name, metavar=metavar, type=Path, required=True, help=text)
    inside = "An enrolled cgroup, in whose network namespaces it accepts. Repeatable."
    parser.add_argument("--cgroup", metavar="PATH", type=Path, action="append", default=[], help=inside)
    build = "Written to the record, for the bridge to tell one version from another."
    parser.add_argument("--build", metavar="TEXT", default="", help=build)
    for name, choices, default in (
        ("--log-format", ("text", "json"), "text"),
        ("--log-level", ("debug", "info", "warning", "error"), "info"),
    ):
        text = f"As of the bridge. Default: {default}."
        parser.add_argument(name, choices=choices, default=default, help=text)
    given = parser.parse_args(argv)
    if not given.maps_dir.is_dir():
        raise ConfigError(f"--maps-dir {given.maps_dir} is no directory: start the bridge first, which makes it")
    return RelayOptions(
        maps_dir=given.maps_dir,
        configuration=given.configuration,
        runtime_dir=given.runtime_dir.absolute(),
        cgroups=tuple(given.cgroup),
        build=given.build,
        log_format=given.log_format,
        log_level=given.log_level,
    )


def _make_relay(options: RelayOptions, succession: Succession) -> AbstractAsyncContextManager[RunningRelay]:
    from kmesh.relay.relay import Relay

    adopted, journal = succession.adopted, succession.journal
    return Relay(options.maps_dir, options.configuration, options.cgroups, journal, adopted)


if __name__ == "__main__":
    main(sys.argv[1:], _make_relay)
