"""kmesh.xds.server.exchange: what an empty list of names asks for."""

from __future__ import annotations

import pytest
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from kmesh.xds.server.catalog import CDS, EDS, LDS, RDS, type_url_of
from kmesh.xds.server.exchange import is_legacy_wildcard

WILDCARDS = {
    "no listener": (LDS, [], True),
    "no cluster": (CDS, [], True),
    "no scoped routes": (type_url_of(ScopedRouteConfiguration), [], True),
    "no endpoints": (EDS, [], False),
    "no routes": (RDS, [], False),
    "no secret": (type_url_of(Secret), [], False),
    "a name": (CDS, ["a"], False),
    "a star is no legacy": (CDS, ["*"], False),
}


@pytest.mark.parametrize(("type_url", "names", "want"), WILDCARDS.values(), ids=WILDCARDS)
def test_is_legacy_wildcard(type_url: str, names: list[str], want: bool) -> None:
    got = is_legacy_wildcard(type_url, names)
    assert got is want
