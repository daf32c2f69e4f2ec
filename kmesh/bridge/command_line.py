"""The command line: reading it, and the text of --help. Both follow from the table in kmesh.bridge.settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import NoReturn

from kmesh.bridge.option import Group, Option, Sources
from kmesh.bridge.sources import Given, env_name, flag_name, refuse_unknown
from kmesh.errors import ConfigError

__all__ = ["read_command_line", "render_help"]

_HELP_WIDTH = 100

_DESCRIPTION = """\
The kmesh bridge keeps this machine's kernel in step with an xDS control plane: it takes listeners,
routes, clusters and endpoints over ADS, compiles them, and writes them where kernel programs read
them. A process in an enrolled cgroup that connects to a service address is connected to one of its
endpoints, directly. The programs outlive the bridge: stopping it, or killing it, disturbs no
connection. --uninstall removes them.

examples:
  beside istiod, in plain text, or over TLS with the pod's own token
    python -m kmesh.bridge --xds-server istiod.istio-system:15010
    python -m kmesh.bridge --xds-server istiod.istio-system:15012 \\
        --tls-ca /var/run/secrets/istio/root-cert.pem --tls-server-name istiod.istio-system.svc \\
        --token-file /var/run/secrets/tokens/istio-token \\
        --node-metadata NAMESPACE=shop --node-metadata 'LABELS={"app": "cart"}'

  from files, with no control plane, for the processes of one cgroup
    python -m kmesh.bridge --config-dir /etc/kmesh/resources --cgroup /sys/fs/cgroup/shop

  with the settings in a file, and one of them overridden
    python -m kmesh.bridge --config /etc/kmesh/bridge.yaml --log-level debug"""

_EPILOG = """\
Every option has an environment variable, in brackets above, and a key in the --config file, which
is its name without the dashes. The command line wins over the environment, and the environment
over the file. In a variable, the values of a repeatable option are separated by commas, and
KMESH_NODE_METADATA may be one JSON object. In the file they are a list, or a mapping:

  xds-server: istiod.istio-system:15010
  cgroup: [/sys/fs/cgroup/kubepods.slice]
  node-metadata: {NAMESPACE: shop, LABELS: {app: cart}}

Exit status: 0 after a stop that was asked for, 1 when the bridge cannot go on, 2 when a setting is
wrong."""


def read_command_line(options: Mapping[str, Option], argv: Sequence[str]) -> dict[str, Given]:
    """`argv` is without the program's name.

    Raises: ConfigError. SystemExit(0) after printing --help.
    """
    namespace, rest = _build_parser(options).parse_known_args(argv)
    for argument in rest:
        if not argument.startswith("-"):
            raise ConfigError(f"{argument!r} is not expected: every setting is given by its --name (see --help)")
        refuse_unknown(argument.partition("=")[0], map(flag_name, options), "see --help")
    return {field: Given(_texts(value), flag_name(field)) for field, value in vars(namespace).items()}


def render_help(options: Mapping[str, Option]) -> str:
    """What --help prints."""
    return _build_parser(options).format_help()


def _texts(value: str | bool | list[str]) -> tuple[str, ...]:
    match value:
        case bool():
            return (str(value).lower(),)
        case str():
            return (value,)
        case list():
            return tuple(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}: see --help")


def _format_help(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=8, width=_HELP_WIDTH)


def _build_parser(options: Mapping[str, Option]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m kmesh.bridge",
        usage="python -m kmesh.bridge (--xds-server HOST:PORT | --config-dir DIR) [OPTION ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_format_help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    for group in Group:
        section = parser.add_argument_group(group.value)
        for field, option in options.items():
            if option.group is group:
                _add_option(section, field, option)
        if group is Group.ACTION:
            section.add_argument("--help", "-h", action="help", help="Print this and exit.")
    return parser


def _add_option(section: argparse._ArgumentGroup, field: str, option: Option) -> None:
    name, text = flag_name(field), _describe(field, option).replace("%", "%%")
    if option.is_flag and option.sources is not Sources.COMMAND_LINE:
        section.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
    elif option.is_flag:
        section.add_argument(name, action="store_true", help=text)
    else:
        metavar = "|".join(option.choices) or option.metavar
        action = "append" if option.is_repeatable else "store"
        section.add_argument(name, action=action, metavar=metavar, help=text)


def _describe(field: str, option: Option) -> str:
    text = option.help
    if option.is_repeatable:
        text += " Repeatable."
    default = option.default_note or (option.default if not option.is_flag else None)
    if default:
        text += f" Default: {default}."
    if option.sources is not Sources.COMMAND_LINE:
        text += f" [{env_name(field)}]"
    return text
