"""Ids of request fields."""

from __future__ import annotations

import pytest

from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.records.constants import Field, FieldFlag
from kmesh.records.digest import name_id

FLAGS = 0b11


@pytest.mark.parametrize(
    ("name", "want"),
    [(":method", Field.METHOD), (":path", Field.TARGET), (":authority", Field.AUTHORITY), ("host", Field.AUTHORITY)],
)
def test_what_every_request_has(name: str, want: Field) -> None:
    assert header_field(name) == want


@pytest.mark.parametrize(
    ("got", "digest", "flag"),
    [
        pytest.param(header_field("x-a"), name_id("header", "x-a"), 0, id="header"),
        pytest.param(header_field("accept"), name_id("header", "accept"), FieldFlag.JOINED, id="joined"),
        pytest.param(parameter_field("x-a"), name_id("parameter", "x-a"), FieldFlag.PARAMETER, id="parameter"),
        pytest.param(parameter_field("accept"), name_id("parameter", "accept"), FieldFlag.PARAMETER, id="not_joined"),
    ],
)
def test_digests_and_flags(got: int, digest: int, flag: int) -> None:
    assert (got & ~FLAGS, got & FLAGS) == (digest & ~FLAGS, flag)
