"""kmesh.xds.server.documents: YAML and JSON as Envoy reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmesh.xds.server.documents import parse_json, parse_yaml

SCALARS = {
    "port": ("80", 80),
    "negative": ("-1", -1),
    "hexadecimal": ("0x1F", 31),
    "leading zero is not octal": ("010", 10),
    "fraction": ("0.5", 0.5),
    "exponent": ("1e3", 1000.0),
    "duration": ("5s", "5s"),
    "fraction of a second": ("0.25s", "0.25s"),
    "true": ("true", True),
    "false": ("False", False),
    "null": ("~", None),
    "nothing": ("", None),
    "on is a word": ("on", "on"),
    "no is a word": ("no", "no"),
    "y is a word": ("y", "y"),
    "colons are no base 60": ("12:30", "12:30"),
    "a date is a word": ("2024-01-01", "2024-01-01"),
    "an address": ("::1", "::1"),
    "quoted": ('"80"', "80"),
    "a star": ('"*"', "*"),
}


@pytest.mark.parametrize(("text", "want"), SCALARS.values(), ids=SCALARS)
def test_yaml_scalars(text: str, want: object) -> None:
    got = parse_yaml(f"value: {text}")["value"]
    assert got == want
    assert type(got) is type(want)


def test_yaml_anchors_and_merges() -> None:
    got = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")
    assert got["b"] == {"x": 1, "y": 3}


def test_json() -> None:
    assert parse_json('{"a": [1, "b", null]}') == {"a": [1, "b", None]}


ERRORS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "yaml key twice": (parse_yaml, "a: 1\nb: 2\na: 3", "line 3 column 1: key 'a' is given twice"),
    "yaml nested key twice": (parse_yaml, "x:\n- {a: 1, a: 2}", "line 2 column 10: key 'a' is given twice"),
    "yaml unfinished": (parse_yaml, "a: [1\n", "line 2 column 1"),
    "yaml tab": (parse_yaml, "a:\n\t- b", "line 2 column 1"),
    "yaml two documents": (parse_yaml, "a: 1\n---\nb: 2", "line 2 column 1"),
    "yaml python object": (parse_yaml, "a: !!python/object:os.system x", "line 1 column 4: could not determine"),
    "yaml control character": (parse_yaml, "a: \x01", "control characters|special characters"),
    "json key twice": (parse_json, '{"a": 1, "a": 2}', "key 'a' is given twice"),
    "json unfinished": (parse_json, '{"a": ', "line 1 column 7"),
}


@pytest.mark.parametrize(("parse", "text", "want"), ERRORS.values(), ids=ERRORS)
def test_errors(parse: Callable[[str], Any], text: str, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        parse(text)
