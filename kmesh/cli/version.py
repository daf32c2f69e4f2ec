"""kmeshctl version."""

from __future__ import annotations

import argparse
import asyncio
import platform
from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.cli.as_json import print_json, to_plain
from kmesh.cli.connection import fetch_version
from kmesh.cli.options import add_command, add_instance_option, add_json_option, add_socket_option, socket_path
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    from kmesh.cli.options import Subparsers

__all__ = ["add_to"]


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "version",
        _run,
        "show the version of kmeshctl, and of the bridge when one answers",
        "No running bridge is needed.",
    )
    add_instance_option(parser)
    add_socket_option(parser)
    add_json_option(parser)


def _run(options: argparse.Namespace) -> int:
    try:
        bridge = asyncio.run(fetch_version(socket_path(options)))
        absence = ""
    except ConfigError as error:
        bridge, absence = None, str(error)
    if options.json:
        client = {"kmesh": __version__, "python": platform.python_version()}
        print_json({"kmeshctl": client, "bridge": to_plain(bridge)})
        return 0
    print(f"kmeshctl {__version__}, Python {platform.python_version()}")
    if bridge:
        print(f"bridge   {bridge.kmesh}, Python {bridge.python}, Linux {bridge.kernel}")
        print(f"         instance {bridge.instance}, process {bridge.pid}")
    else:
        print(f"bridge   {absence}")
    return 0
