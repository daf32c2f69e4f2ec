"""`python -m kmesh.xds.server`: serve a directory of resources over ADS until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from kmesh.errors import ConfigError
from kmesh.model.address import HostAddress
from kmesh.xds.server import AdsServer, ConfigDir, follow

_DESCRIPTION = "Serve xDS resources from files to Envoy, kmesh or any other xDS client, over ADS (SotW and delta)."
_EPILOG = """\
example:
  python -m kmesh.xds.server --config-dir examples/resources --listen 127.0.0.1:18000

Every *.yaml, *.yml and *.json file directly in the directory is read, in the order of their names. Each holds a list
of resources as Envoy's file subscription reads them, of any type:

  resources:
  - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
    name: shop
    type: EDS
    eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
  - "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
    cluster_name: shop
    endpoints:
    - lb_endpoints:
      - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}

A changed file is served within about a second: clusters and endpoints first, then listeners and routes, and what is
gone is taken away last. A file that cannot be read or has an error changes nothing; the log says what is wrong.

exit status: 0 after SIGINT or SIGTERM; 2 when the files, the address or the command line have an error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kmesh.xds.server",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-dir", type=Path, required=True, metavar="DIR", help="directory of resource files")
    parser.add_argument(
        "--listen",
        type=parse_listen,
        default="127.0.0.1:18000",
        metavar="ADDR",
        help="HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default: %(default)s)"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("hpack").setLevel(logging.INFO)  # it has a line for every header
    try:
        uvloop.run(_serve(ConfigDir(options.config_dir), options.listen))
    except ConfigError as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 2
    return 0


def parse_listen(text: str) -> HostAddress | Path:
    """Raises argparse.ArgumentTypeError."""
    if text.startswith("unix:") and text != "unix:":
        return Path(text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host) != is_bracketed or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or unix:PATH")
    return HostAddress(host.strip("[]"), int(port))


async def _serve(directory: ConfigDir, listen: HostAddress | Path) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AdsServer(directory.read(), listen) as server, asyncio.TaskGroup() as tasks:
        print(f"listening on {_show(server.address)}", flush=True)
        follower = tasks.create_task(follow(directory, server.publish))
        await stopped.wait()
        follower.cancel()


def _show(address: HostAddress | Path) -> str:
    if isinstance(address, Path):
        return f"unix:{address}"
    return f"[{address.host}]:{address.port}" if ":" in address.host else str(address)


if __name__ == "__main__":
    sys.exit(main())
