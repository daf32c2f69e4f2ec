"""The index gives the virtual host that the rule in kmesh.compiler.semantics gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.semantics.virtual_host import find_virtual_host
from kmesh.model.route import RouteConfiguration, VirtualHost
from kmesh.relay.host_index import HostIndex

LABELS = st.text("aB.", min_size=1, max_size=4)
DOMAINS = st.one_of(
    st.just("*"), LABELS, LABELS.map("*{}".format), LABELS.map("{}*".format), LABELS.map("{}:80".format)
)


@given(
    domains=st.lists(DOMAINS, min_size=1, max_size=12, unique_by=str.lower),
    host=st.one_of(LABELS, LABELS.map("{}:80".format), st.just("")),
    ignores_port=st.booleans(),
)
def test_agrees_with_the_rule(domains: list[str], host: str, ignores_port: bool) -> None:
    config = RouteConfiguration(
        name="r",
        virtual_hosts=tuple(VirtualHost(name=domain, domains=(domain,), routes=()) for domain in domains),
        ignores_port=ignores_port,
    )
    authority = host.encode()
    assert HostIndex(config).find(authority) is find_virtual_host(config, authority)
