"""The table of route features: complete, rendered, and kind to what every istiod route carries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from kmesh.model.limitation import Effect
from kmesh.model.route import Action, OtherAction
from kmesh.model.route_features import DEFAULT_RETRY, NO_TIMEOUT, ROUTE_FEATURES, Place, classify
from kmesh.xds.resources.fields import FIELDS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "generate", tmp_path], check=True, timeout=60)
    got, want = (directory / "route-features.md" for directory in (DOCS, tmp_path))
    assert got.read_text() == want.read_text(), "run docs/generate"


@pytest.mark.parametrize("name", [name for name in FIELDS if FIELDS[name].features])
def test_every_feature_of_the_decoder_has_a_row(name: str) -> None:
    message = name.rpartition(".")[2]
    assert {f"{message}.{field}" for field in FIELDS[name].features} - ROUTE_FEATURES.keys() == set()


def test_every_action_has_a_row() -> None:
    actions = {kind.feature for kind in get_args(Action) if kind is not OtherAction}
    assert actions - ROUTE_FEATURES.keys() == set()


@pytest.mark.parametrize(
    "name",
    [NO_TIMEOUT, DEFAULT_RETRY, "VirtualHost.include_request_attempt_count", "RouteAction.max_grpc_timeout"],
)
def test_what_istiod_always_asks_for_stays_in_the_kernel(name: str) -> None:
    assert classify(name).place is Place.KERNEL


def test_what_is_not_known_is_refused() -> None:
    got = classify("Route field 1023")
    assert (got.place, got.at_connect) == (Place.REFUSED, Effect.REFUSED)


def test_what_is_refused_is_refused_at_connect_unless_it_is_beside_routing() -> None:
    effects = {row.at_connect for row in ROUTE_FEATURES.values() if row.place is Place.REFUSED}
    assert effects == {Effect.REFUSED, Effect.UNENFORCED}
