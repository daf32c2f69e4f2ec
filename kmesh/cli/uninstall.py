"""kmeshctl uninstall."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.cli.connection import fetch_version
from kmesh.cli.options import add_bpffs_option, add_command, add_instance_option, add_socket_option, socket_path
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    from kmesh.cli.options import Subparsers

__all__ = ["add_to"]

_TEXT = """\
Programs and maps outlive the bridge on purpose, so that connections are balanced while it restarts. This command
detaches and removes those of one instance, and nothing else. Established connections stay, but those that are routed
by request, which the relay holds and which end with it; new ones then go where the application sends them.

Stop the bridge first.

examples:
  kmeshctl uninstall
  kmeshctl uninstall --instance edge --yes
"""


def add_to(subparsers: Subparsers) -> None:
    summary = "remove every program and map that an instance left in the kernel"
    parser = add_command(subparsers, "uninstall", _run, summary, _TEXT)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_instance_option(parser)
    add_socket_option(parser)
    add_bpffs_option(parser)


def _run(options: argparse.Namespace) -> int:
    _check_stopped(options)
    if not (options.yes or _is_agreed(options.instance)):
        print("nothing removed")
        return 0
    removed = _remove(options.instance, options.bpffs, socket_path(options).with_suffix(".relay"))
    for item in removed:
        print(f"removed {item}")
    if not removed:
        print(f"instance {options.instance} has left nothing")
    return 0


def _remove(instance: str, bpffs: Path, runtime_dir: Path) -> list[str]:
    from kmesh.kernel.uninstall import uninstall  # here, so that no other command loads what speaks to the kernel
    from kmesh.relay.record import end_relay

    try:
        return uninstall(instance, bpffs) + end_relay(runtime_dir)
    except PermissionError as error:
        raise ConfigError(f"cannot remove {error.filename}: run kmeshctl as root") from error
    except OSError as error:
        raise KmeshError(f"cannot remove {error.filename}: {error.strerror}") from error


def _check_stopped(options: argparse.Namespace) -> None:
    try:
        bridge = asyncio.run(fetch_version(socket_path(options)))
    except KmeshError:
        return
    raise ConfigError(
        f"the bridge of instance {options.instance} still runs as process {bridge.pid}: stop it, then uninstall"
    )


def _is_agreed(instance: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("uninstall asks before it removes anything: add --yes where nobody can answer")
    question = f"Remove every program and map of instance {instance} from the kernel? [y/N] "
    return input(question).strip().lower() in ("y", "yes")
