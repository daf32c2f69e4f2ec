"""What subcommands share: which bridge is meant, and how a subcommand is declared.

Names, environment variables and defaults are those of the bridge's own settings.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bridge.option import parse_instance, parse_path
from kmesh.bridge.settings import OPTIONS
from kmesh.bridge.sources import env_name

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # argparse has no public name for it

__all__ = ["add_bpffs_option", "add_command", "add_instance_option", "add_json_option", "add_socket_option"]
__all__ += ["socket_path"]


def add_command(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], summary: str, text: str
) -> argparse.ArgumentParser:
    """A subcommand whose --help is the summary and `text`. `run` takes the parsed options, gives the exit status."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{text.strip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_instance_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instance",
        metavar="NAME",
        type=_parsed_by(parse_instance),
        default=_default("instance"),
        help=f"the bridge's instance (default: ${env_name('instance')} or {OPTIONS['instance'].default!r})",
    )


def add_socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket",
        metavar="PATH",
        type=_parsed_by(parse_path),
        default=_default("api_socket"),
        help=f"the socket of its API (default: ${env_name('api_socket')} or {OPTIONS['api_socket'].default})",
    )


def add_bpffs_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bpffs",
        metavar="PATH",
        type=_parsed_by(parse_path),
        default=_default("bpffs"),
        help=f"the BPF file system it pins in (default: ${env_name('bpffs')} or {OPTIONS['bpffs'].default})",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, with everything that the text leaves out")


def socket_path(options: argparse.Namespace) -> Path:
    return Path(str(options.socket).replace("<instance>", options.instance))


def _default(name: str) -> str | None:
    return os.environ.get(env_name(name)) or OPTIONS[name].default


def _parsed_by(parse: Callable[[str], object]) -> Callable[[str], object]:
    """For argparse, which shows the message of no other exception."""

    def read(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
