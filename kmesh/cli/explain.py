"""kmeshctl explain."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.cli.as_json import print_json
from kmesh.cli.config_snapshot import read_config_snapshot
from kmesh.cli.connection import fetch_explanation
from kmesh.cli.explain_text import render_explanation
from kmesh.cli.options import add_command, add_instance_option, add_json_option, add_socket_option, socket_path
from kmesh.cli.text import mask_controls
from kmesh.compiler.explain import explain
from kmesh.compiler.semantics import Request
from kmesh.errors import ConfigError
from kmesh.model.address import SocketAddress
from kmesh.relay.replace_regex import replace_regex

if TYPE_CHECKING:
    from kmesh.cli.options import Subparsers

__all__ = ["add_to", "parse_request"]

_TEXT = """\
The URL's address and port select the listener, as connect() would; a name is resolved first. Host is the URL's
authority unless -H gives another. The answer says which listener, route configuration, virtual host and route, what
the action is, and for the routes before it the condition that failed.

"path" is how the configuration has such a request carried, and "why" has each reason:
  kernel    given its endpoint at connect() with all requests of the connection, or matched in the kernel
  relay     by user space on the same node, for what the kernel does not do
  waypoint  by a full proxy elsewhere, for what runs filters; answered 503 where there is none
  refused   connect() fails with ECONNREFUSED, or nothing does what the route asks for and 503 is the answer
  direct    no listener captures it: it goes where the application sends it
Where the path is the kernel's and no connection to the cluster is free, that one request is the relay's.

An action is one of cluster, weighted, redirect, direct_response, no_route, and undecided where Envoy's answer
depends on what is not modelled. The exit status is 0 when a route was found and 3 when none was.

examples:
  kmeshctl explain --request 'GET http://10.96.0.20:8080/cart?id=1' -H 'Host: shop'
  kmeshctl explain --config-dir examples/resources --request http://127.96.0.60/cart --json
"""

_REQUEST = re.compile(r"(?:(?P<method>\S+)\s+)?http://(?P<authority>[^/?#\s]+)(?P<target>[/?]\S*)?")
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d{1,5}))?")
_HTTP_PORT = 80
_FOUND, _NOT_FOUND = 0, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    host: str
    port: int
    request: Request


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "explain", _run, "show what becomes of one HTTP request, and why", _TEXT)
    parser.add_argument("--request", metavar="REQUEST", required=True, help="'[METHOD] http://HOST[:PORT][/PATH]'")
    parser.add_argument("-H", metavar="HEADER", dest="headers", action="append", default=[], help="'name: value'")
    parser.add_argument("--method", metavar="METHOD", help="instead of the request's; GET where none is given")
    parser.add_argument(
        "--config-dir", metavar="DIR", type=Path, help="read the configuration here instead of asking a bridge"
    )
    add_instance_option(parser)
    add_socket_option(parser)
    add_json_option(parser)


def _run(options: argparse.Namespace) -> int:
    asked = parse_request(options.request, options.headers, options.method)
    destination = _resolve(asked.host, asked.port)
    answer = _ask(options, destination, asked.request)
    if options.json:
        print_json(answer)
    else:
        print(render_explanation(answer), end="")
    return _NOT_FOUND if answer["action"]["kind"] == "no_route" else _FOUND


def parse_request(text: str, headers: list[str], method: str | None) -> _Asked:
    """Raises: ConfigError."""
    found = _REQUEST.fullmatch(text.strip())
    authority = _AUTHORITY.fullmatch(found["authority"]) if found else None
    if not found or not authority:
        raise ConfigError(f"--request {text!r} is not '[METHOD] http://HOST[:PORT][/PATH]': give a whole URL")
    pairs = [_parse_header(header) for header in headers]
    if not any(name.lower() == b"host" for name, _ in pairs):
        pairs.insert(0, (b"Host", found["authority"].encode()))
    target = found["target"] or "/"
    return _Asked(
        host=authority["ipv6"] or authority["host"],
        port=int(authority["port"] or _HTTP_PORT),
        request=Request(
            method=(method or found["method"] or "GET").encode(),
            target=(target if target.startswith("/") else f"/{target}").encode(),
            headers=tuple(pairs),
        ),
    )


def _parse_header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":") if not text.startswith(":") else ("", "", "")
    if not colon or not name.strip():
        raise ConfigError(f"-H {text!r} is not 'name: value'")
    return name.strip().encode(), value.strip().encode()


def _resolve(host: str, port: int) -> SocketAddress:
    try:
        return SocketAddress.parse(host, port)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return SocketAddress.parse(str(found[0][4][0]), port)
    except (OSError, OverflowError, ValueError, UnicodeError):
        raise ConfigError(
            f"{host!r} port {port} is no address that a connection could go to: "
            "put the service's address into the URL, and its name into -H 'Host: ...'"
        ) from None


def _ask(options: argparse.Namespace, destination: SocketAddress, request: Request) -> dict[str, Any]:
    if options.config_dir is None:
        message = pb.ExplainRequest(
            address=destination.ip,
            port=destination.port,
            method=request.method,
            target=request.target,
            headers=[pb.Header(name=name, value=value) for name, value in request.headers],
        )
        answer: dict[str, Any] = json.loads(asyncio.run(fetch_explanation(socket_path(options), message)).json)
        return answer
    snapshot, refused = read_config_snapshot(options.config_dir)
    for error in refused:
        print(f"kmeshctl: left out: {mask_controls(str(error))}", file=sys.stderr)
    return explain(snapshot, destination, request, replace_regex=replace_regex).to_plain()
