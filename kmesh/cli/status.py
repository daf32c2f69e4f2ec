"""kmeshctl status."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kmesh.cli.as_json import print_json, to_plain
from kmesh.cli.connection import fetch_status
from kmesh.cli.options import add_command, add_instance_option, add_json_option, add_socket_option, socket_path
from kmesh.cli.status_text import render_status

if TYPE_CHECKING:
    from kmesh.cli.options import Subparsers

__all__ = ["add_to"]

_TEXT = """\
The first line is "ok", or "degraded" and what is wrong. Below it, in this order: the stream to the control plane and
what it accepted of each type; what is served and what still waits; what the kernel holds; how connections ended; and
what the configuration asks for that is not done.

The exit status is 0 for ok, 1 for degraded, 2 when no bridge answers.

examples:
  kmeshctl status
  watch -n 2 kmeshctl status --instance edge
  kmeshctl status --json | jq -r '.limitations[] | .resources[]'
"""


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "status", _run, "show whether all is well, and what the bridge does", _TEXT)
    add_instance_option(parser)
    add_socket_option(parser)
    add_json_option(parser)


def _run(options: argparse.Namespace) -> int:
    status = asyncio.run(fetch_status(socket_path(options)))
    if options.json:
        print_json(to_plain(status))
    else:
        is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(render_status(status, now=datetime.now(UTC), is_coloured=is_coloured), end="")
    return 1 if status.problems else 0
