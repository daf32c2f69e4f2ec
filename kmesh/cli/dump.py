"""kmeshctl dump."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.cli.connection import stream_dump
from kmesh.cli.options import add_command, add_instance_option, add_json_option, add_socket_option, socket_path
from kmesh.cli.text import mask_controls

if TYPE_CHECKING:
    from kmesh.cli.options import Subparsers

__all__ = ["add_to"]

_KINDS = {
    "xds": pb.DumpKind.XDS,
    "model": pb.DumpKind.MODEL,
    "ir": pb.DumpKind.IR,
    "image": pb.DumpKind.IMAGE,
    "maps": pb.DumpKind.MAPS,
}

_TEXT = """\
Configuration passes five stages; each can be looked at:
  xds     resources as the control plane sent them, accepted ones only
          types: LDS, RDS, CDS, EDS
  model   what they mean here, validated; what still waits for others
          types: listener, route_config, cluster, assignment, waiting
  ir      what the compiler makes of it
          types: listener, cluster
  image   the records that the kernel should hold
          types: km_frontend, km_cluster, km_node, km_cursor, km_backend
  maps    the records that it does hold

examples:
  kmeshctl dump xds --type CDS --name reviews
  kmeshctl dump maps --type km_frontend
  diff <(kmeshctl dump image) <(kmeshctl dump maps)
  kmeshctl dump model --json | jq '.[] | select(.type == "cluster") | .name'
"""


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "dump", _run, "show the configuration at one of its stages", _TEXT)
    parser.add_argument("kind", choices=_KINDS, help="the stage")
    parser.add_argument(
        "--name",
        metavar="TEXT",
        default="",
        help="only what has TEXT in its name; of records, in their text or in the name of the listener or cluster "
        "that they were compiled from",
    )
    parser.add_argument("--type", metavar="TYPE", default="", help="only one type, see above")
    add_instance_option(parser)
    add_socket_option(parser)
    add_json_option(parser)


def _run(options: argparse.Namespace) -> int:
    request = pb.DumpRequest(
        kind=_KINDS[options.kind],
        format=pb.DumpFormat.JSON if options.json else pb.DumpFormat.TEXT,
        name=options.name,
        type=options.type,
    )
    asyncio.run(_print_dump(socket_path(options), request))
    return 0


async def _print_dump(path: Path, request: pb.DumpRequest) -> None:
    is_text = request.format == pb.DumpFormat.TEXT  # JSON escapes control characters by itself
    async for chunk in stream_dump(path, request):
        sys.stdout.write(mask_controls(chunk) if is_text else chunk)
