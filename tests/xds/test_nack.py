from __future__ import annotations

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.xds.nack import MAX_MESSAGE_BYTES, build_error_detail

URL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def invalid(name: str, reason: str = "is bad") -> ResourceInvalid:
    return ResourceInvalid(URL, name, "lb_policy", reason)


def test_every_error_is_named_with_path_and_reason() -> None:
    got = build_error_detail([invalid("a"), invalid("b", "is worse")])
    assert got.code == 3
    assert got.message == "Cluster 'a' at lb_policy: is bad\nCluster 'b' at lb_policy: is worse"


@pytest.mark.parametrize("reason", ["is bad", "x" * 5000, "é" * 5000], ids=["short", "long", "long_utf8"])
def test_message_is_bounded_and_counts_the_rest(reason: str) -> None:
    got = build_error_detail([invalid(f"cluster-{i}", reason) for i in range(1000)]).message
    *lines, last = got.split("\n")
    assert len(got.encode()) <= MAX_MESSAGE_BYTES
    assert last == f"and {1000 - len(lines)} more"
    assert all(line.startswith(f"Cluster 'cluster-{i}'") for i, line in enumerate(lines))


def test_a_name_of_64_kib_leaves_room_for_the_others() -> None:
    got = build_error_detail([invalid("n" * 65536), invalid("b")]).message
    assert "(65536 characters)" in got
    assert got.endswith("Cluster 'b' at lb_policy: is bad")


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert "a?b" in build_error_detail([invalid("x", "a\ud800b")]).message
