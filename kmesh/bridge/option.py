"""One option of the bridge: its meaning, and how its text becomes a value.

Knows nothing of where the text comes from (kmesh.bridge.sources) nor of the other options (kmesh.bridge.settings).
Every parser takes the text of one value and raises ValueError, whose message ends with the remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from kmesh.model.address import HostAddress

__all__ = [
    "Group",
    "Option",
    "Sources",
    "is_loopback",
    "parse_directory",
    "parse_flag",
    "parse_instance",
    "parse_metadata",
    "parse_path",
    "parse_server",
    "parse_text",
    "setting",
]

_HOST = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")
_INSTANCE = re.compile(r"[a-z0-9-]{1,32}")
_FLAG = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


class Group(Enum):
    """A heading of --help."""

    CONFIGURATION = "where the configuration comes from (exactly one of the first two)"
    NODE = "what this node tells the control plane about itself"
    SECURITY = "TLS and credentials"
    MACHINE = "this machine"
    LOGGING = "logging"
    ACTION = "other"


class Sources(Enum):
    """Where an option may be set."""

    ALL = "command line, environment, file"
    NOT_FILE = "command line, environment"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Everything about an option but its name, which is the field's in Settings: xds_server gives
    --xds-server, KMESH_XDS_SERVER and the key "xds-server"."""

    group: Group
    help: str
    parse: Callable[[str], object]
    metavar: str
    default: str | None
    """Parsed like a given value; "<instance>" stands for the instance's name. None: unset, or computed."""
    default_note: str
    """What --help says of a default that is computed."""
    choices: tuple[str, ...]
    """The whole set of values; empty when `parse` alone decides."""
    is_flag: bool
    is_repeatable: bool
    sources: Sources


def setting(
    group: Group,
    help: str,
    *,
    parse: Callable[[str], object] | None = None,
    metavar: str = "",
    default: str | None = None,
    default_note: str = "",
    choices: tuple[str, ...] = (),
    is_flag: bool = False,
    is_repeatable: bool = False,
    sources: Sources = Sources.ALL,
) -> Any:
    """A dataclass field that carries its Option. The return type is what lets it stand for a field of any type."""
    option = Option(
        group=group,
        help=help,
        parse=parse or (parse_flag if is_flag else parse_text),
        metavar=metavar,
        default="false" if is_flag else default,
        default_note=default_note,
        choices=choices,
        is_flag=is_flag,
        is_repeatable=is_repeatable,
        sources=sources,
    )
    return field(metadata={"option": option})


def parse_text(text: str) -> str:
    if not text:
        raise ValueError("the value is empty: give one, or leave the option out")
    return text


def parse_flag(text: str) -> bool:
    try:
        return _FLAG[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false: use one of the two") from None


def parse_path(text: str) -> Path:
    return Path(parse_text(text))


def parse_directory(text: str) -> Path:
    path = parse_path(text)
    if not path.is_dir():
        raise ValueError(f"{text} is not a directory: create it or correct the path")
    return path


def parse_instance(text: str) -> str:
    if not _INSTANCE.fullmatch(text):
        raise ValueError(f"{text!r} cannot name an instance: use 1 to 32 of a-z, 0-9 and '-'")
    return text


def parse_server(text: str) -> HostAddress | Path:
    """HOST:PORT, [IPV6]:PORT or unix:PATH."""
    if text.startswith("unix:"):
        return _parse_socket_path(text)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 0xFFFF):
        raise ValueError(f"{text!r} has no port from 1 to 65535: write HOST:PORT, as in istiod.istio-system:15010")
    if host.startswith("[") and host.endswith("]"):
        return HostAddress(_parse_ipv6(host[1:-1]), int(port))
    if ":" in host:
        raise ValueError(f"{text!r} is ambiguous: write an IPv6 address in brackets, as in [::1]:15010")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is not a host name: write HOST:PORT, as in istiod.istio-system:15010")
    return HostAddress(host, int(port))


def _parse_socket_path(text: str) -> Path:
    path = Path("/" + text.removeprefix("unix:").lstrip("/")) if text.startswith("unix:/") else None
    if path is None or path == Path("/"):
        raise ValueError(f"{text!r} has no absolute path: write unix:/run/xds.sock")
    return path


def _parse_ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv6 address: only those are written in brackets") from None


def parse_metadata(text: str) -> tuple[str, object]:
    """KEY=VALUE. A value that starts with {, [ or " is JSON; any other is a string, as Istio expects of scalars."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} is not KEY=VALUE: write it as in NAMESPACE=default")
    if not value.startswith(("{", "[", '"')):
        return key, value
    try:
        return key, json.loads(value)
    except json.JSONDecodeError as e:
        raise ValueError(f"the value of {key} is not JSON ({e}): correct it, or put text in double quotes") from None


def is_loopback(host: str) -> bool:
    """Whether a connection to `host` stays on this machine, as far as its text can tell."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
