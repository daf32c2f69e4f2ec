"""Model objects as plain lists and back, by their type hints alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from kmesh.model.codec import codec_of, describe
from kmesh.model.listener import EscapedSlashes, Normalization
from kmesh.model.route import ClusterAction, DirectResponse, Redirect, Route, RouteConfiguration, VirtualHost

ROUTES = (
    Route(name="a", action=ClusterAction(cluster="c"), timeout_s=None),
    Route(action=DirectResponse(status=200, body=b"\xff\0")),
    Route(action=Redirect(port=80, strips_query=True)),
)
CONFIG = RouteConfiguration(
    name="r", virtual_hosts=(VirtualHost(name="v", domains=("a", "*"), routes=ROUTES),), ignores_port=True
)


@pytest.mark.parametrize("value", [CONFIG, *ROUTES, Normalization(escaped_slashes=EscapedSlashes.REJECT_REQUEST)])
def test_what_is_decoded_is_what_was_encoded(value: Any) -> None:
    codec = codec_of(type(value))
    assert codec.decode(codec.encode(value)) == value


def test_defaults_are_left_out() -> None:
    route = Route(name="a", action=ClusterAction(cluster="c"))
    assert codec_of(Route).encode(route) == [0b101, "a", [0, [1, "c"]]]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Holder:
    colours: Mapping[int, Colour]
    pair: tuple[bytes, int] = (b"", 1)
    optional: float | None = None


@dataclass(frozen=True, kw_only=True)
class OtherDefault:
    colours: Mapping[int, Colour]
    pair: tuple[bytes, int] = (b"", 2)
    optional: float | None = None


def test_mappings_pairs_enums_and_none() -> None:
    held = Holder(colours={1: Colour.RED}, pair=(b"\xff", 3), optional=0.5)
    codec = codec_of(Holder)
    assert codec.encode(held) == [0b111, {1: "red"}, [b"\xff", 3], 0.5]
    assert codec.decode(codec.encode(held)) == held


def test_a_description_tells_defaults_and_members_apart() -> None:
    described = codec_of(Holder).description.replace("Holder", "OtherDefault")
    assert described != codec_of(OtherDefault).description
    assert "red" in described
    assert describe(Holder) != describe(OtherDefault)


def test_a_type_that_is_not_of_the_model_is_refused() -> None:
    with pytest.raises(TypeError, match="no codec"):
        codec_of(list[int])
