"""Settings from the environment and from a file, in the plain form that the command line's also take.

Names are matched here and values only taken apart; kmesh.bridge.settings parses them. The file is YAML, as are the
resources and manifests that its author already writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import yaml

from kmesh.bridge.option import Option, Sources
from kmesh.errors import ConfigError

__all__ = ["Given", "env_name", "flag_name", "key_name", "read_environment", "read_file", "refuse_unknown"]

_PREFIX = "KMESH_"

# What Kubernetes sets in every pod of a namespace that has a Service called kmesh or kmesh-something.
_KUBERNETES_LINK = re.compile(
    r"KMESH(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Given:
    """What one source says of one option: the texts of its values, one unless repeatable, and where, for errors."""

    values: tuple[str, ...]
    where: str


def flag_name(field: str) -> str:
    return "--" + key_name(field)


def env_name(field: str) -> str:
    return _PREFIX + field.upper()


def key_name(field: str) -> str:
    return field.replace("_", "-")


def read_environment(options: Mapping[str, Option], environ: Mapping[str, str]) -> dict[str, Given]:
    """Repeatable options are separated by commas; one that takes KEY=VALUE may also be one JSON object.

    An empty variable is an unset one. Raises: ConfigError, also for a KMESH_ variable that is no option.
    """
    by_name = {env_name(f): f for f, option in options.items() if option.sources is not Sources.COMMAND_LINE}
    found: dict[str, Given] = {}
    for name, text in environ.items():
        if not name.startswith(_PREFIX) or _KUBERNETES_LINK.fullmatch(name):
            continue
        if name not in by_name:
            refuse_unknown(name, by_name, "unset it, or see --help for the variables there are")
        if text:
            found[by_name[name]] = Given(_split_variable(options[by_name[name]], name, text), name)
    return found


def _split_variable(option: Option, name: str, text: str) -> tuple[str, ...]:
    if not option.is_repeatable:
        return (text,)
    if not text.startswith("{"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return _pairs(json.loads(text))
    except json.JSONDecodeError as e:
        raise ConfigError(f"{name}: not a JSON object ({e}): correct it, or write KEY=VALUE,KEY=VALUE") from None


def read_file(options: Mapping[str, Option], path: Path) -> dict[str, Given]:
    """A YAML mapping whose keys are the flags without their dashes. Raises: ConfigError."""
    try:
        content: object = yaml.safe_load(path.read_bytes())
    except OSError as e:
        raise ConfigError(f"cannot read the configuration file {path} ({e.strerror}): correct --config") from None
    except yaml.YAMLError as e:
        reason = " ".join(str(e).split())
        raise ConfigError(f"the configuration file {path} is not YAML ({reason}): correct it") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration file {path} is not a mapping: write one 'name: value' a line")
    by_key = {key_name(f): f for f, option in options.items() if option.sources is Sources.ALL}
    found: dict[str, Given] = {}
    for key, value in content.items():
        if key not in by_key:
            refuse_unknown(str(key), by_key, "see --help for the names there are", f" in {path}")
        if value is not None:
            where = f"{key} in {path}"
            found[by_key[key]] = Given(_file_texts(options[by_key[key]], value, where), where)
    return found


def _file_texts(option: Option, value: object, where: str) -> tuple[str, ...]:
    if option.is_repeatable and isinstance(value, dict):
        return _pairs(value)
    values = value if option.is_repeatable and isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, dict | list):
            raise ConfigError(f"{where}: a single value is expected here: write it as text")
        if isinstance(item, bool) is not option.is_flag:
            hint = "true or false" if option.is_flag else "text: put it in quotes"
            raise ConfigError(f"{where}: {item!r} is a {type(item).__name__}, and the option takes {hint}")
    return tuple(str(item).lower() if option.is_flag else str(item) for item in values)


def _pairs(mapping: Mapping[object, object]) -> tuple[str, ...]:
    """KEY=VALUE texts as kmesh.bridge.option.parse_metadata reads them."""
    return tuple(f"{key}={json.dumps(value, default=str)}" for key, value in mapping.items())


def refuse_unknown(name: str, known: Iterable[str], remedy: str, where: str = "") -> NoReturn:
    """Raises: ConfigError, with the likeliest of `known` when one is close to `name`, else with `remedy`."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else remedy
    raise ConfigError(f"there is no option {name}{where}: {hint}")
