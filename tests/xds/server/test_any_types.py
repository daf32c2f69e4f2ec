"""kmesh.xds.server.any_types: a message type from its name alone, in a process that has loaded none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kmesh.xds.server.any_types import AnyTypes

KNOWN = {
    "filter": "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "nested": "envoy.config.route.v3.RateLimit.Action",
    "udpa": "udpa.type.v1.TypedStruct",
    "xds": "xds.type.v3.TypedStruct",
    "protobuf": "google.protobuf.Struct",
    "wrapper": "google.protobuf.StringValue",
}
UNKNOWN = {
    "message": "envoy.extensions.filters.network.tcp_proxy.v3.NoSuchMessage",
    "package": "envoy.extensions.no.such.package.v3.Message",
    "root": "istio.workload.Address",
    "python module": "os.path",
    "no package": "Message",
    "empty": "",
    "dots": "envoy..v3",
}


@pytest.mark.parametrize("name", KNOWN.values(), ids=KNOWN)
def test_known(name: str) -> None:
    program = (
        "from kmesh.xds.server.any_types import AnyTypes\n"
        f"print(AnyTypes().FindMessageTypeByName({name!r}).full_name)"
    )
    got = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert got == name


@pytest.mark.parametrize("name", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown(name: str) -> None:
    with pytest.raises(KeyError):
        AnyTypes().FindMessageTypeByName(name)
