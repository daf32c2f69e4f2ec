"""The bridge's settings: every option is one field here, and nowhere else.

The flag, the environment variable, the key of the file and the line of --help all follow from the field. A setting
is taken from the first place that has it: command line, environment, file, default.
"""

# ruff: noqa: RUF009  (setting() makes a new dataclass field at every call, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kmesh.bridge.command_line import read_command_line
from kmesh.bridge.host import default_node_id
from kmesh.bridge.option import (
    Group,
    Option,
    Sources,
    is_loopback,
    parse_directory,
    parse_instance,
    parse_metadata,
    parse_path,
    parse_server,
    setting,
)
from kmesh.bridge.sources import Given, flag_name, read_environment, read_file
from kmesh.errors import ConfigError
from kmesh.kernel.mounts import MOUNTS, list_mounts
from kmesh.model.address import HostAddress

__all__ = ["OPTIONS", "Settings", "load_settings"]

_TLS_FILES_AND_NAME = ("tls_ca", "tls_cert", "tls_key", "tls_server_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user decided, validated. Of the files, only --config has been read."""

    xds_server: HostAddress | Path | None = setting(
        Group.CONFIGURATION,
        "Control plane to take the configuration from, over ADS: a host name or address with a port, [IPV6]:PORT, "
        "or unix:PATH. It need not be up yet: the bridge keeps trying, and meanwhile serves the last good one.",
        metavar="HOST:PORT",
        parse=parse_server,
    )
    config_dir: Path | None = setting(
        Group.CONFIGURATION,
        "Take it from the YAML and JSON files of a directory instead, and again whenever they change. An xDS server "
        "inside this process serves them; all that follows is the same.",
        metavar="DIR",
        parse=parse_directory,
    )
    xds_variant: str = setting(
        Group.CONFIGURATION,
        "The protocol's variant. With delta the control plane sends what changed, with sotw everything each time.",
        choices=("sotw", "delta"),
        default="delta",
    )
    config: Path | None = setting(
        Group.CONFIGURATION,
        "YAML file with any of these settings.",
        metavar="FILE",
        parse=parse_path,
        sources=Sources.NOT_FILE,
    )
    node_id: str = setting(
        Group.NODE,
        "Name of this node. istiod insists on the four parts TYPE~IP~NAME.NAMESPACE~DOMAIN. The default has them, "
        "from the host's name and the address of its default route, or from INSTANCE_IP, POD_NAME and "
        "POD_NAMESPACE in the environment.",
        metavar="ID",
        default_note="sidecar~ADDRESS~HOST.default~default.svc.cluster.local",
    )
    node_cluster: str = setting(
        Group.NODE, "The group of nodes that this one belongs to.", metavar="NAME", default="kmesh"
    )
    node_metadata: Mapping[str, object] = setting(
        Group.NODE,
        "A fact that the control plane may scope its answer by: istiod reads NAMESPACE, LABELS, NETWORK, CLUSTER_ID "
        'and others. A VALUE that starts with {, [ or " is JSON, any other is text.',
        metavar="KEY=VALUE",
        parse=parse_metadata,
        is_repeatable=True,
    )
    tls: bool = setting(
        Group.SECURITY, "Speak TLS to the control plane. The other TLS options imply it.", is_flag=True
    )
    tls_ca: Path | None = setting(
        Group.SECURITY,
        "PEM file of the authorities that may have signed the control plane's certificate.",
        metavar="FILE",
        parse=parse_path,
        default_note="the system's authorities",
    )
    tls_cert: Path | None = setting(
        Group.SECURITY,
        "PEM file of this node's own certificate chain, for a control plane that asks for one.",
        metavar="FILE",
        parse=parse_path,
    )
    tls_key: Path | None = setting(
        Group.SECURITY, "PEM file of the private key of --tls-cert.", metavar="FILE", parse=parse_path
    )
    tls_server_name: str | None = setting(
        Group.SECURITY,
        "The name that the control plane's certificate must have.",
        metavar="NAME",
        default_note="the host of --xds-server",
    )
    token_file: Path | None = setting(
        Group.SECURITY,
        "File with a bearer token, read again at every connection, so that it may be rotated.",
        metavar="FILE",
        parse=parse_path,
    )
    cgroup: tuple[Path, ...] = setting(
        Group.MACHINE,
        "A cgroup (v2) directory whose processes, and those of the cgroups below it, are in the mesh.",
        metavar="PATH",
        parse=parse_path,
        is_repeatable=True,
        default_note="the cgroup2 root in /proc/mounts",
    )
    instance: str = setting(
        Group.MACHINE,
        "Name of this bridge among several on one machine: 1 to 32 of a-z, 0-9 and '-'. Each has programs, maps, "
        "state and an API socket of its own.",
        metavar="NAME",
        parse=parse_instance,
        default="default",
    )
    state_dir: Path = setting(
        Group.MACHINE,
        "Where the last good configuration is kept, for a start without a control plane.",
        metavar="DIR",
        parse=parse_path,
        default="/var/lib/kmesh/<instance>",
    )
    api_socket: Path = setting(
        Group.MACHINE,
        "Unix socket of the bridge's own API, which kmeshctl talks to.",
        metavar="PATH",
        parse=parse_path,
        default="/run/kmesh/<instance>.sock",
    )
    bpffs: Path = setting(
        Group.MACHINE,
        "The BPF file system to pin programs and maps in, so that they outlive the bridge.",
        metavar="PATH",
        parse=parse_path,
        default="/sys/fs/bpf",
    )
    log_format: str = setting(
        Group.LOGGING,
        "Each event on standard error as a line for people, or as a JSON object for machines.",
        choices=("text", "json"),
        default="text",
    )
    log_level: str = setting(
        Group.LOGGING,
        "The least severe events to log: info has every change of state, debug also every xDS message.",
        choices=("debug", "info", "warning", "error"),
        default="info",
    )
    uninstall: bool = setting(
        Group.ACTION,
        "Remove the programs, maps and state of --instance, and only those, then exit.",
        is_flag=True,
        sources=Sources.COMMAND_LINE,
    )
    version: bool = setting(
        Group.ACTION, "Print the version and exit.", is_flag=True, sources=Sources.COMMAND_LINE
    )

    @property
    def relay_dir(self) -> Path:
        """Where the relay keeps what does not outlive a boot, its control socket among it."""
        return self.api_socket.with_suffix(".relay")

    @property
    def is_serving(self) -> bool:
        """Whether the bridge is to run, and not only to act and exit."""
        return not (self.uninstall or self.version)


OPTIONS: Mapping[str, Option] = {f.name: f.metadata["option"] for f in fields(Settings)}
"""By field name, in the order of --help."""


def load_settings(
    argv: Sequence[str], environ: Mapping[str, str], proc_mounts: Path = MOUNTS
) -> Settings:
    """The settings that a command line (without the program's name), an environment and a file amount to.

    Raises: ConfigError for the first thing that is wrong. SystemExit(0) after printing --help.
    """
    given = read_environment(OPTIONS, environ) | read_command_line(OPTIONS, argv)
    if "config" in given:
        given = read_file(OPTIONS, Path(given["config"].values[0])) | given
    values: dict[str, Any] = {name: _parse(option, given.get(name)) for name, option in OPTIONS.items()}
    for name, option in OPTIONS.items():
        if name not in given and option.default and "<instance>" in option.default:
            values[name] = Path(option.default.replace("<instance>", values["instance"]))
    values["node_metadata"] = MappingProxyType(dict(values["node_metadata"]))
    values["node_id"] = values["node_id"] or default_node_id(environ)
    if "tls" not in given:
        values["tls"] = any(values[name] for name in _TLS_FILES_AND_NAME)
    settings = Settings(**values)
    if not settings.is_serving:
        return settings
    _check_source(settings)
    _check_security(settings)
    return replace(settings, cgroup=_check_cgroups(settings.cgroup, proc_mounts))


def _parse(option: Option, given: Given | None) -> object:
    """The value of one option, or its default. Raises: ConfigError."""
    if given is None:
        unset = () if option.is_repeatable else None
        return unset if option.default is None else option.parse(option.default)
    values = []
    for text in given.values:
        if option.choices and text not in option.choices:
            raise ConfigError(f"{given.where}: {text!r} is not a choice: use {' or '.join(option.choices)}")
        try:
            values.append(option.parse(text))
        except ValueError as e:
            raise ConfigError(f"{given.where}: {e}") from None
    return tuple(values) if option.is_repeatable else values[0]


def _check_source(settings: Settings) -> None:
    if (settings.xds_server is None) is (settings.config_dir is None):
        problem = "are both given" if settings.xds_server else "are both missing"
        raise ConfigError(f"--xds-server and --config-dir {problem}: give exactly one of them (see --help)")


def _check_security(settings: Settings) -> None:
    """Raises: ConfigError for what cannot be meant, or would send a token in clear over a network."""
    used = [flag_name(name) for name in _TLS_FILES_AND_NAME if getattr(settings, name)]
    if used and not settings.tls:
        raise ConfigError(f"{used[0]} is given and TLS is off: leave out one of the two")
    if settings.config_dir and (settings.tls or settings.token_file):
        raise ConfigError("--config-dir is served inside this process: leave out TLS and the token")
    if bool(settings.tls_cert) is not bool(settings.tls_key):
        raise ConfigError("--tls-cert and --tls-key go together: give both or neither")
    if settings.tls and isinstance(settings.xds_server, Path) and not settings.tls_server_name:
        raise ConfigError("a Unix socket has no host name to check a certificate for: give --tls-server-name")
    if settings.token_file and not settings.tls and not _stays_here(settings.xds_server):
        raise ConfigError("--token-file would be sent in clear over the network: give --tls as well")


def _stays_here(server: HostAddress | Path | None) -> bool:
    return is_loopback(server.host) if isinstance(server, HostAddress) else True


def _check_cgroups(cgroups: tuple[Path, ...], proc_mounts: Path) -> tuple[Path, ...]:
    """`cgroups`, or the cgroup2 root when there are none. Raises: ConfigError."""
    for path in cgroups:
        if not (path / "cgroup.controllers").is_file():
            raise ConfigError(f"--cgroup {path} is not a cgroup v2 directory: create it, or correct the path")
    if cgroups:
        return cgroups
    roots = list_mounts("cgroup2", proc_mounts)
    if not roots:
        raise ConfigError("no cgroup2 file system is mounted: run `mount -t cgroup2 none /sys/fs/cgroup`, or use a "
                          "distribution that boots with cgroup v2")
    return (roots[0],)
