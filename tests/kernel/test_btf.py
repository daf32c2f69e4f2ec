"""Offsets of members, in type information that is made up and in the kernel's own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from kmesh.errors import FeatureMissing
from kmesh.kernel import btf
from kmesh.kernel.btf import find_offset

_INT, _STRUCT, _UNION = 1, 4, 5


def write_btf(path: Path) -> None:
    """int; union {int x; int y}; struct inner {int a; int b; (union)}; struct outer {int c; inner in}."""
    names = [b"", b"int", b"x", b"y", b"inner", b"a", b"b", b"outer", b"c", b"in"]
    places = {name: sum(len(each) + 1 for each in names[:index]) for index, name in enumerate(names)}

    def entry(name: bytes, kind: int, size: int, *members: tuple[bytes, int, int]) -> bytes:
        rows = b"".join(struct.pack("<III", places[member], number, bits) for member, number, bits in members)
        return struct.pack("<III", places[name], kind << 24 | len(members), size) + rows

    types = entry(b"int", _INT, 4) + struct.pack("<I", 32)
    types += entry(b"", _UNION, 4, (b"x", 1, 0), (b"y", 1, 0))
    types += entry(b"inner", _STRUCT, 12, (b"a", 1, 0), (b"b", 1, 32), (b"", 2, 64))
    types += entry(b"outer", _STRUCT, 16, (b"c", 1, 0), (b"in", 3, 32))
    strings = b"\0".join(names) + b"\0"
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    path.write_bytes(header + types + strings)


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "vmlinux"
    write_btf(path)
    monkeypatch.setattr(btf, "VMLINUX", path)
    return path


@pytest.mark.parametrize(
    ("members", "want"),
    [(("outer", "c"), 0), (("outer", "in"), 4), (("outer", "in", "b"), 8), (("outer", "in", "y"), 12)],
)
def test_offsets(made_up: Path, members: tuple[str, ...], want: int) -> None:
    assert find_offset.__wrapped__(*members) == want


@pytest.mark.parametrize("members", [("gone",), ("outer", "gone"), ("outer", "in", "gone")])
def test_what_is_not_there_is_named(made_up: Path, members: tuple[str, ...]) -> None:
    with pytest.raises(FeatureMissing, match="gone"):
        find_offset.__wrapped__(*members)


def test_a_kernel_without_type_information(made_up: Path) -> None:
    made_up.unlink()
    with pytest.raises(FeatureMissing, match="CONFIG_DEBUG_INFO_BTF"):
        find_offset.__wrapped__("outer", "c")


def test_the_running_kernels() -> None:
    """struct tcp_sock begins with a struct sock."""
    assert find_offset.__wrapped__("tcp_sock", "inet_conn", "icsk_inet", "sk") == 0
    whole = find_offset.__wrapped__("tcp_sock", "inet_conn", "icsk_inet", "sk", "sk_backlog", "rmem_alloc")
    assert whole == find_offset.__wrapped__("sock", "sk_backlog", "rmem_alloc") > 0
